// The Python binding of the CUDA kernels, fastrnn._kernels_cuda. Pointers come as integers; sizes, dtypes and devices
// have been checked, and the right device is current. Calls only launch: nothing here waits for the device.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <string>

#include "../cells/registry.h"
#include "layer.h"

#ifndef FASTRNN_CUDA_ARCHS
#define FASTRNN_CUDA_ARCHS "none"
#endif
#ifndef FASTRNN_CUDA_MODULE
#define FASTRNN_CUDA_MODULE _kernels_cuda
#endif

namespace py = pybind11;

namespace fastrnn {
namespace cuda {
namespace {

using Address = int64_t;

template <class P = void*>
P pointer(Address address) {
  return reinterpret_cast<P>(static_cast<uintptr_t>(address));
}

// What both passes are told. `workspace` comes with the pass: its size depends on the rest.
Call make_call(std::array<int64_t, 4> sizes, Address batch_sizes, bool reverse, int dtype, bool tf32, bool products,
               Address stream, Address status, const std::string& tier, int64_t timeout_ns) {
  if (sizes[0] > INT32_MAX - 1 || sizes[1] > INT32_MAX - 64)
    throw std::invalid_argument("fastrnn: more steps or rows than 2^31 on a GPU; split the batch");
  Call c{};
  c.T = sizes[0], c.B = sizes[1], c.H = sizes[2], c.P = sizes[3];
  c.batch_sizes = pointer<const int64_t*>(batch_sizes);
  c.reverse = reverse;
  c.dtype = DType(dtype);
  c.tf32 = tf32;
  c.products = products;
  c.stream = pointer(stream);
  c.status = pointer<uint32_t*>(status);
  c.tier = tier.empty() ? '\0' : tier[0];
  c.timeout_ns = timeout_ns;
  return c;
}
Call with_workspace(Call c, Address space) {
  c.workspace = pointer(space);
  return c;
}
// s, sums, carry_h, carry_c; none: all steps.
OneStep one_step(const std::optional<std::array<int64_t, 4>>& one) {
  if (!one) return {};
  return {(*one)[0], pointer((*one)[1]), pointer((*one)[2]), pointer((*one)[3])};
}

template <class T>
struct Tag {
  using Op = T;
};

template <class Use>
auto with_operand(const Call& c, Use&& use) {
  switch (c.dtype) {
    case DType::f64:
      return use(Tag<Exact<double>>{});
    case DType::bf16:
      return use(Tag<Bf16>{});
    case DType::f16:
      return use(Tag<F16>{});
    default:
      break;
  }
  return c.tf32 ? use(Tag<Tf32>{}) : use(Tag<Exact<float>>{});
}

int64_t workspace(int cell, const Call& c, bool backward) {
  return with_operand(c, [&](auto tag) { return workspace_size<typename decltype(tag)::Op>(cell, c, backward); });
}

void forward(int cell, const Call& call, Address space, Address gx, Address w_hh, Address b_ih, Address b_hh,
             Address w_hr, Address hx, Address cx, Address y, Address h_n, Address c_n, Address reserve, Address hidden,
             std::optional<std::array<int64_t, 4>> one) {
  const Forward f{with_workspace(call, space),
                  one_step(one),
                  pointer(gx),
                  pointer(w_hh),
                  pointer(b_ih),
                  pointer(b_hh),
                  pointer(w_hr),
                  pointer(hx),
                  pointer(cx),
                  pointer(y),
                  pointer(h_n),
                  pointer(c_n),
                  pointer(reserve),
                  pointer(hidden)};
  py::gil_scoped_release release;
  with_operand(f.call, [&](auto tag) { layer_forward<typename decltype(tag)::Op>(cell, f); });
}

void backward(int cell, const Call& call, Address space, Address w_hh, Address w_hr, Address hx, Address cx, Address y,
              Address reserve, Address dy, Address dh_n, Address dc_n, Address dg, Address dhx, Address dcx, Address dh,
              std::optional<std::array<int64_t, 4>> one) {
  const Backward b{with_workspace(call, space),
                   one_step(one),
                   pointer(w_hh),
                   pointer(w_hr),
                   pointer(hx),
                   pointer(cx),
                   pointer(y),
                   pointer(reserve),
                   pointer(dy),
                   pointer(dh_n),
                   pointer(dc_n),
                   pointer(dg),
                   pointer(dhx),
                   pointer(dcx),
                   pointer(dh)};
  py::gil_scoped_release release;
  with_operand(b.call, [&](auto tag) { layer_backward<typename decltype(tag)::Op>(cell, b); });
}

// (tier, why, rows of a team)
py::tuple plan(int cell, const Call& c, bool backward) {
  const Plan p = with_operand(c, [&](auto tag) { return layer_plan<typename decltype(tag)::Op>(cell, c, backward); });
  return py::make_tuple(std::string(1, p.tier), p.why, p.rows);
}

// name -> (gates, saved values a unit, cell state, gradient columns, first column of the input's side, of the state's)
py::dict cells() {
  py::dict all;
#define FASTRNN_DESCRIBE(name, type)                                                           \
  all[#name] = py::make_tuple(int(type::kGates), int(type::kSaved), bool(type::kHasCellState), \
                              int(type::kGradColumns), int(type::kGradX), int(type::kGradH));
  FASTRNN_CELLS(FASTRNN_DESCRIBE)
#undef FASTRNN_DESCRIBE
  return all;
}

// Row block of W_ih that column kGradX + j of the gate gradients belongs to.
int gate_of_x(int cell, int j) {
  int i = 0, gate = j;
#define FASTRNN_GATE(name, type) \
  if (cell == i++) gate = type::gate_of_x(j);
  FASTRNN_CELLS(FASTRNN_GATE)
#undef FASTRNN_GATE
  return gate;
}

}  // namespace
}  // namespace cuda
}  // namespace fastrnn

PYBIND11_MODULE(FASTRNN_CUDA_MODULE, m) {
  m.doc() = "fastrnn's CUDA kernels, the recurrent part of one layer and direction (private: use fastrnn._cuda)";
  m.attr("ARCHS") = FASTRNN_CUDA_ARCHS;
  m.attr("CELLS") = fastrnn::cuda::cells();
  // of this module alone: the tests load an emulation beside it
  py::class_<fastrnn::cuda::Call>(m, "Call", py::module_local())
      .def(py::init(&fastrnn::cuda::make_call), py::arg("sizes"), py::kw_only(), py::arg("batch_sizes"),
           py::arg("reverse"), py::arg("dtype"), py::arg("tf32"), py::arg("products"), py::arg("stream"),
           py::arg("status"), py::arg("tier"), py::arg("timeout_ns"));
  m.def("forward", &fastrnn::cuda::forward);
  m.def("backward", &fastrnn::cuda::backward);
  m.def("plan", &fastrnn::cuda::plan);
  m.def("workspace_size", &fastrnn::cuda::workspace);
  m.def("gate_of_x", &fastrnn::cuda::gate_of_x);
}
