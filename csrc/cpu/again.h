// A module's call like its last one: what fastrnn/_quick.py found of that is held against what stands now, and the
// kernels run, in C because a dozen operations in Python take as long as a small step. That is asked before torch
// prepares a module's call, where nothing but the module's own `forward` would run.
#pragma once
#include "callable.h"

namespace fastrnn {
namespace {

constexpr const char* kAgain = "fastrnn.Again";
constexpr int kWeights = 4, kTensors = 1 + kWeights + 2;  // x, weights, states

// What torch and this package are asked at each call.
struct Asked {
  py::object grad_enabled, dispatch_modes, tracing, threads;  // functions of torch
  py::object forward_ad;                                      // module; forward mode is on where _current_level >= 0
  py::object new_, record;                                    // Tensor.new, and `apply` of the Function that records
};

struct Again {
  Asked asked;
  py::tuple names;  // of the weights among the module's parameters
  py::object cell;
  bool grad, recording, step, lstm, packs;
  Py_ssize_t states;
  py::object guard, holder, kernels, forward;
};

inline PyObject* interned(const char* name) { return PyUnicode_InternFromString(name); }

struct Names {  // of attributes
  PyObject *level = interned("_current_level"), *kernels = interned("kernels"), *packed = interned("packed");
};

inline const Names& names() {
  static const Names n;
  return n;
}

inline py::object attribute(const py::object& of, PyObject* name) {
  auto value = py::reinterpret_steal<py::object>(PyObject_GetAttr(of.ptr(), name));
  if (!value) throw py::error_already_set();
  return value;
}

inline long integer(const py::object& number) {
  const long n = PyLong_AsLong(number.ptr());
  if (n == -1 && PyErr_Occurred()) throw py::error_already_set();
  return n;
}

// An Again's: (call, parameters, x, hx, packed) -> what the module returns; None where anything is not as it was.
// call: the `_quick._Call`; parameters: the module's dict; packed: its PackedOnce, or None.
PyObject* again(PyObject* self, PyObject* const* g, Py_ssize_t count) {
  return guarded<Again>(self, kAgain, count, 5, 5, [&](const Again& a) -> py::object {
    PyObject *const call = g[0], *const parameters = g[1], *const hx = g[3], *const packed = g[4];
    if (!PyDict_Check(parameters)) throw Decline();
    PyObject* t[1 + kTensors] = {call, g[2]};  // the call stands before the tensors, where it records
    py::object held[kTensors - 1];             // another thread may put others in their place meanwhile
    PyObject** const tensors = t + 1;
    size_t n = 1;
    const auto hold = [&](PyObject* tensor) {
      held[n - 1] = py::reinterpret_borrow<py::object>(tensor);
      tensors[n++] = tensor;
    };
    for (int i = 0; i < kWeights; ++i) {
      PyObject* weight = PyDict_GetItemWithError(parameters, PyTuple_GET_ITEM(a.names.ptr(), i));
      if (!weight && PyErr_Occurred()) throw py::error_already_set();
      if (!weight) throw Decline();
      hold(weight);
    }
    if (hx != Py_None && a.lstm) {
      if (!(PyTuple_CheckExact(hx) || PyList_CheckExact(hx)) || PySequence_Fast_GET_SIZE(hx) != 2) throw Decline();
      PyObject** const pair = PySequence_Fast_ITEMS(hx);
      if (pair[0] == pair[1]) throw Decline();  // the guard wants each tensor once
      hold(pair[0]);
      hold(pair[1]);
    } else if (hx != Py_None) {
      hold(hx);
    }
    if (Py_ssize_t(n) != 1 + kWeights + a.states) throw Decline();
    if ((called(a.asked.grad_enabled).ptr() == Py_True) != a.grad ||
        integer(attribute(a.asked.forward_ad, names().level)) >= 0 ||
        attribute(a.holder, names().kernels).ptr() != a.kernels.ptr() || integer(called(a.asked.dispatch_modes)) ||
        !called(a.asked.tracing).is_none() || called(a.guard.ptr(), tensors, n).ptr() != Py_True)
      throw Decline();
    py::object results;
    if (a.recording) {
      results = called(a.asked.record.ptr(), t, 1 + n);
    } else {
      py::object ready = py::none();
      if (a.packs && packed != Py_None)
        ready = called(attribute(py::reinterpret_borrow<py::object>(packed), names().packed),
                       {a.cell.ptr(), tensors[1], tensors[2]});
      const py::object threads = called(a.asked.threads);
      PyObject* all[4 + kTensors] = {a.asked.new_.ptr(), threads.ptr(), ready.ptr(), Py_None};
      std::copy(tensors, tensors + n, all + 4);
      results = called(a.forward.ptr(), all, 4 + n);
    }
    if (results.is_none()) throw Decline();  // a tensor has no memory: the long way says so
    if (a.lstm == a.step || !PyTuple_Check(results.ptr())) return results;
    PyObject* const* const r = PySequence_Fast_ITEMS(results.ptr());
    if (a.step) return py::reinterpret_borrow<py::object>(r[0]);
    const auto states = py::reinterpret_steal<py::object>(PyTuple_Pack(2, r[1], r[2]));
    auto all = py::reinterpret_steal<py::object>(states ? PyTuple_Pack(2, r[0], states.ptr()) : nullptr);
    if (!all) throw py::error_already_set();
    return all;
  });
}

constexpr const char* kRepeated = "fastrnn.Repeated";

struct Repeated {
  py::object module_class, call_impl;  // torch.nn.Module, and its _call_impl as it was
  py::dict torch_module;               // what torch/nn/modules/module.py holds
};

struct Attributes {  // of a module, most of them in its dict
  PyObject *call = interned("_kept_call"), *settings = interned("_kept_settings"),
           *parameters = interned("_parameters"), *packed = interned("_packed"), *forward = interned("forward"),
           *call_impl = interned("_call_impl");
  PyObject* hooks[4] = {interned("_backward_hooks"), interned("_backward_pre_hooks"), interned("_forward_hooks"),
                        interned("_forward_pre_hooks")};
  PyObject* global_hooks[4] = {interned("_global_backward_hooks"), interned("_global_backward_pre_hooks"),
                               interned("_global_forward_hooks"), interned("_global_forward_pre_hooks")};
};

inline const Attributes& attributes() {
  static const Attributes a;
  return a;
}

// A Repeated's: (module, args) -> what the module returns, as `forward` would; None where it was not called so before,
// anything is not as it was, or more than `forward` is to run.
PyObject* repeated(PyObject* self, PyObject* const* g, Py_ssize_t count) {
  return guarded<Repeated>(self, kRepeated, count, 2, 2, [&](const Repeated& r) -> py::object {
    PyObject *const module = g[0], *const args = g[1];
    const Attributes& names = attributes();
    const Py_ssize_t given = PyTuple_Check(args) ? PyTuple_GET_SIZE(args) : 0;
    if (given != 1 && given != 2) throw Decline();
    const auto dict = py::reinterpret_steal<py::object>(PyObject_GenericGetDict(module, nullptr));
    if (!dict) throw py::error_already_set();
    const auto item_of = [](const py::object& of, PyObject* name) {  // or null
      PyObject* value = PyDict_GetItemWithError(of.ptr(), name);
      if (!value && PyErr_Occurred()) throw py::error_already_set();
      return py::reinterpret_borrow<py::object>(value);
    };
    const auto item = [&](PyObject* name) { return item_of(dict, name); };
    const auto any = [&](const py::object& of, PyObject* const(&hooks)[4]) {
      for (PyObject* name : hooks) {
        const py::object there = item_of(of, name);
        if (!there || !PyDict_Check(there.ptr()) || PyDict_GET_SIZE(there.ptr())) return true;
      }
      return false;
    };
    // call, its function `again`, settings and `forward`, of fastrnn/_again.py's Kept
    const py::object kept = item(names.call);
    if (!kept || !PyTuple_Check(kept.ptr()) || PyTuple_GET_SIZE(kept.ptr()) != 4) throw Decline();
    PyObject* const* const k = PySequence_Fast_ITEMS(kept.ptr());
    if (k[2] != item(names.settings).ptr() || item(names.forward)) throw Decline();
    const auto type = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(Py_TYPE(module)));
    if (any(dict, names.hooks) || any(r.torch_module, names.global_hooks) ||
        attribute(type, names.forward).ptr() != k[3] ||
        attribute(r.module_class, names.call_impl).ptr() != r.call_impl.ptr())
      throw Decline();
    const py::object parameters = item(names.parameters), packed = item(names.packed);
    if (!parameters) throw Decline();
    return called(py::reinterpret_borrow<py::object>(k[1]),
                  {k[0], parameters.ptr(), PyTuple_GET_ITEM(args, 0), given == 2 ? PyTuple_GET_ITEM(args, 1) : Py_None,
                   packed ? packed.ptr() : Py_None});
  });
}

py::object make_repeated(py::object module_class, py::dict torch_module) {
  py::object call_impl = attribute(module_class, attributes().call_impl);
  const py::capsule self(new Repeated{std::move(module_class), std::move(call_impl), std::move(torch_module)},
                         kRepeated, [](void* p) { delete static_cast<Repeated*>(p); });
  return method<&repeated>("repeated", self);
}

py::object make_again(py::tuple asked, py::tuple weights, py::object cell, bool grad, bool recording, bool step,
                      bool lstm, bool packs, Py_ssize_t states, py::object guard, py::object holder, py::object kernels,
                      py::object forward) {
  if (py::len(asked) != 7 || py::len(weights) != kWeights) throw py::value_error("seven functions, four names");
  const Asked functions{asked[0], asked[1], asked[2], asked[3], asked[4], asked[5], asked[6]};
  auto* data = new Again{functions,
                         std::move(weights),
                         std::move(cell),
                         grad,
                         recording,
                         step,
                         lstm,
                         packs,
                         states,
                         std::move(guard),
                         std::move(holder),
                         std::move(kernels),
                         std::move(forward)};
  const py::capsule self(data, kAgain, [](void* p) { delete static_cast<Again*>(p); });
  return method<&again>("again", self);
}

}  // namespace
}  // namespace fastrnn
