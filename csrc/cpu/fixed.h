// Calls whose sizes are settled beforehand: one layer in one direction, so that a step of decoding pays for its
// tensors' addresses and results alone, in C because a dozen operations in Python take as long as a small step.
#pragma once
#include <pybind11/stl.h>

#include <numeric>
#include <utility>
#include <vector>

#include "tensors.h"

namespace fastrnn {

// in module.cpp
void run_forward(int cell, const ForwardArgs& args);
void run_backward(int cell, const BackwardArgs& args);

namespace {

struct Fixed {
  int cell;
  bool cell_state, step;  // whether there is a state c; whether x is one step (B, I) and there is no y beside h_n
  std::vector<int64_t> batch_sizes;  // of a ragged batch, whose x and y are (N, features) in place of (T, B, features)
  Layer layer;
  int64_t N, rows;  // of a ragged batch, all rows; of weights, G*H
  int64_t large;    // bytes from which on a gradient's memory is another's business
};

constexpr const char* kFixed = "fastrnn.Fixed";

// A new tensor for the rows of all steps, and for a state; `make` and x as in tensors.h.
Tensor sequence(const Fixed& f, PyObject* make, PyObject* x, int64_t features) {
  const Layer& l = f.layer;
  return l.batch_sizes ? made(make, x, l.dtype, {f.N, features})
         : f.step      ? made(make, x, l.dtype, {l.B, features})
                       : made(make, x, l.dtype, {l.T, l.B, features});
}

Tensor state(const Fixed& f, PyObject* make, PyObject* x) {
  const Layer& l = f.layer;
  return f.step ? made(make, x, l.dtype, {l.B, l.H}) : made(make, x, l.dtype, {1, l.B, l.H});
}

// Runs `call` without the interpreter's lock, which other threads may then take; a call of some microseconds is not
// worth it.
template <class F>
void unlocked(const Layer& l, F&& call) {
  if (l.T * l.B * l.H * (l.I + l.H) < (1 << 18)) return call();
  const py::gil_scoped_release release;
  call();
}

int threads(PyObject* number) {
  const long n = PyLong_AsLong(number);
  if (n == -1 && PyErr_Occurred()) throw py::error_already_set();
  return int(n);
}

Sequence rows_of(void* data, const Layer& l, int64_t width) { return {data, l.B * width, width}; }

// A Fixed's: (new, threads, packed, reserve, x, w_ih, w_hh, b_ih, b_hh[, hx[, cx]]) -> (y (not of a step), h_n, c_n (of a
// cell that has one)); packed and reserve may be None. None instead: a tensor has no memory.
PyObject* forward_fixed(PyObject* self, PyObject* const* g, Py_ssize_t count) {
  return guarded<Fixed>(self, kFixed, count, 9, 11, [&](const Fixed& f) {
    PyObject *const make = g[0], *const x = g[4];
    ForwardArgs args{f.layer, {}, {}, nullptr, nullptr, {}, nullptr, nullptr, nullptr};
    args.layer.threads = threads(g[1]);
    args.reserve = values(g[3]);
    args.x = rows_of(values(x), f.layer, f.layer.I);
    args.w = {values(g[5]), values(g[6]), values(g[7]), values(g[8]), nullptr, values(g[2])};
    if (count > 9) args.hx = values(g[9]);
    if (count > 10) args.cx = values(g[10]);
    Tensor h_n = state(f, make, x), c_n = f.cell_state ? state(f, make, x) : Tensor{};
    Tensor y = f.step ? h_n : sequence(f, make, x, f.layer.H);
    args.y = rows_of(y.values, f.layer, f.layer.H);
    args.h_n = h_n.values;
    args.c_n = c_n.values;
    unlocked(f.layer, [&] { run_forward(f.cell, args); });
    py::tuple results(size_t(!f.step + 1 + f.cell_state));
    Py_ssize_t n = 0;
    const auto add = [&](Tensor& t) { PyTuple_SET_ITEM(results.ptr(), n++, t.object.release().ptr()); };
    if (!f.step) add(y);
    add(h_n);
    if (f.cell_state) add(c_n);
    return results;
  });
}

// A Fixed's: (new, new_large, threads, needed, dy, dh_n, dc_n, x, hx, cx, w_ih, w_hh, b_ih, b_hh, y, reserve) -> the
// gradients of x, hx, cx, w_ih, w_hh, b_ih and b_hh, None for those that the tuple `needed` of bools says no to. dy, dh_n,
// dc_n, hx and cx may be None. None instead of all: a tensor has no memory.
PyObject* backward_fixed(PyObject* self, PyObject* const* g, Py_ssize_t count) {
  return guarded<Fixed>(self, kFixed, count, 16, 16, [&](const Fixed& f) {
    constexpr int kGradients = 7;
    PyObject *const needed = g[3], *const x = g[7];
    if (!PyTuple_Check(needed) || PyTuple_GET_SIZE(needed) != kGradients) throw py::value_error("needed: seven bools");
    const Layer& l = f.layer;
    const auto by = [&](int64_t count) { return count * size_of(l.dtype) < f.large ? g[0] : g[1]; };
    const auto of_weights = [&](int64_t columns) { return made(by(f.rows * columns), x, l.dtype, {f.rows, columns}); };
    const auto gradient = [&](int i) {
      if (PyTuple_GET_ITEM(needed, i) != Py_True) return Tensor{};
      if (i == 0) return sequence(f, by((l.batch_sizes ? f.N : l.T * l.B) * l.I), x, l.I);
      if (i < 3) return g[7 + i] == Py_None ? Tensor{} : state(f, by(l.B * l.H), x);
      return i == 3 ? of_weights(l.I) : i == 4 ? of_weights(l.H) : made(by(f.rows), x, l.dtype, {f.rows});
    };
    BackwardArgs args{};
    args.layer = l;
    args.layer.threads = threads(g[2]);
    args.dy = rows_of(values(g[4]), l, l.H);
    args.dh_n = values(g[5]);
    args.dc_n = values(g[6]);
    args.x = rows_of(values(x), l, l.I);
    args.hx = values(g[8]);
    args.cx = values(g[9]);
    args.w = {values(g[10]), values(g[11]), values(g[12]), values(g[13]), nullptr};
    args.y = rows_of(values(g[14]), l, l.H);
    args.reserve = values(g[15]);
    void** const out[kGradients] = {&args.dx, &args.dhx, &args.dcx, &args.dw_ih, &args.dw_hh, &args.db_ih, &args.db_hh};
    py::list results{size_t(kGradients)};
    for (int i = 0; i < kGradients; ++i) {
      Tensor made = gradient(i);
      *out[i] = made.values;
      PyList_SET_ITEM(results.ptr(), i, made.object.release().ptr());
    }
    unlocked(f.layer, [&] { run_backward(f.cell, args); });
    return results;
  });
}

// The two functions of one Fixed. batch_sizes: none for a dense batch; they are copied.
py::tuple fixed(int cell, bool cell_state, bool step, std::vector<int64_t> batch_sizes, bool reverse, int64_t T,
                int64_t B, int64_t I, int64_t H, int64_t rows, int dtype, int64_t large) {
  const int64_t N = std::accumulate(batch_sizes.begin(), batch_sizes.end(), int64_t(0));
  torch();  // looks for its functions, while nothing stands around the call
  auto* call = new Fixed{cell, cell_state, step, std::move(batch_sizes), {}, N, rows, large};
  const int64_t* sizes = call->batch_sizes.empty() ? nullptr : call->batch_sizes.data();
  call->layer = Layer{T, B, I, H, 0, sizes, reverse, DType(dtype), 1};
  const py::capsule self(call, kFixed, [](void* p) { delete static_cast<Fixed*>(p); });
  return py::make_tuple(method<&forward_fixed>("forward_fixed", self), method<&backward_fixed>("backward_fixed", self));
}

}  // namespace
}  // namespace fastrnn
