// Tensors as Python objects: where their values are, and new ones. torch exports C functions for the models that it
// compiles (aoti_torch_*, a stable ABI: torch/csrc/inductor/aoti_torch/c/shim.h), and the function that makes a tensor's
// Python object. They are looked up in the process, so that neither headers nor libraries of torch are needed here, and
// make a tensor in half the time of Tensor.new. Where they are not there or do otherwise than expected, Tensor.new does it.
#pragma once
#include <dlfcn.h>

#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <utility>

#include "../problem.h"
#include "callable.h"

namespace fastrnn {
namespace {

constexpr int kMostDimensions = 3;

// torch's numbers of what DType counts
constexpr int32_t scalar_type(DType dtype) {
  return dtype == DType::f32 ? 6 : dtype == DType::f64 ? 7 : dtype == DType::bf16 ? 15 : 5;
}

inline void* address(const py::object& number) {
  void* value = PyLong_AsVoidPtr(number.ptr());
  if (PyErr_Occurred()) throw py::error_already_set();
  return value;
}

struct Torch {
  using Handle = void*;  // at::Tensor*
  int32_t (*empty_strided)(int64_t dims, const int64_t* sizes, const int64_t* strides, int32_t dtype, int32_t device,
                           int32_t index, Handle* made) = nullptr;
  int32_t (*get_data_ptr)(Handle, void** values) = nullptr;
  int32_t (*destroy)(Handle) = nullptr;
  PyObject* (*wrap)(const void* tensor) = nullptr;  // THPVariable_Wrap(const at::TensorBase&)
  py::object new_, data_ptr;                        // Tensor.new, Tensor.data_ptr

  Torch() {
    const py::module_ torch = py::module_::import("torch");
    const py::object type = torch.attr("Tensor");
    new_ = type.attr("new"), data_ptr = type.attr("data_ptr");
    const char* wanted = std::getenv("FASTRNN_TORCH_C");
    if ((wanted && *wanted == '0') || !find() || !as_expected(torch, type)) wrap = nullptr;
  }

  // A new tensor on the CPU, and its address; null where it could not be made.
  PyObject* make(DType dtype, const int64_t* sizes, int dims, void** values) const {
    int64_t strides[kMostDimensions], stride = 1;
    for (int i = dims - 1; i >= 0; --i) strides[i] = stride, stride *= sizes[i];
    Handle handle = nullptr;
    if (empty_strided(dims, sizes, strides, scalar_type(dtype), /*CPU*/ 0, -1, &handle)) return nullptr;
    PyObject* made = get_data_ptr(handle, values) ? nullptr : wrap(handle);
    PyErr_Clear();
    destroy(handle);
    return made;
  }

 private:
  bool find() {
    void* library = dlopen("libtorch_python.so", RTLD_NOW | RTLD_NOLOAD);
    if (!library) return false;
    const auto found = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
      return function != nullptr;
    };
    return found(empty_strided, "aoti_torch_empty_strided") && found(get_data_ptr, "aoti_torch_get_data_ptr") &&
           found(destroy, "aoti_torch_delete_tensor_object") && found(wrap, "_Z16THPVariable_WrapRKN2at10TensorBaseE");
  }

  // Whether a handle is what `wrap` takes, before that is tried, and what comes of it is the tensor that was asked for.
  bool as_expected(const py::module_& torch, const py::object& type) const {
    const int64_t sizes[] = {2, 3}, strides[] = {3, 1};
    Handle handle = nullptr;
    if (empty_strided(2, sizes, strides, scalar_type(DType::f32), 0, -1, &handle) || !handle) return false;
    // An at::Tensor is a pointer to a TensorImpl, and that begins with a pointer to its class's virtual functions, the
    // same for all plain tensors.
    void** const body = *static_cast<void***>(handle);
    const py::object plain = torch.attr("empty")(1, py::arg("device") = "cpu");
    const bool alike = body && *body == *static_cast<void**>(address(plain.attr("_cdata")));
    destroy(handle);
    if (!alike) return false;
    constexpr std::pair<DType, const char*> dtypes[] = {
        {DType::f32, "float32"}, {DType::f64, "float64"}, {DType::bf16, "bfloat16"}, {DType::f16, "float16"}};
    for (const auto& [dtype, name] : dtypes) {
      void* values = nullptr;
      const auto made = py::reinterpret_steal<py::object>(make(dtype, sizes, 2, &values));
      if (!made || py::type::of(made).ptr() != type.ptr() || !made.attr("dtype").is(torch.attr(name)) ||
          !py::object(made.attr("shape")).equal(py::make_tuple(2, 3)) || !made.attr("is_contiguous")().cast<bool>() ||
          !py::object(made.attr("device")).equal(py::object(plain.attr("device"))) || !values ||
          address(data_ptr(made)) != values)
        return false;
    }
    return true;
  }
};

// Asked for by one who holds the interpreter's lock, which stands for a lock of its own.
inline const Torch& torch() {
  static const Torch* known = nullptr;
  if (!known) {
    auto found = std::make_unique<Torch>();
    if (!known) known = found.release();  // another thread may have been let in meanwhile
  }
  return *known;
}

// Where the tensor's values are; null for None.
inline void* values(PyObject* tensor) {
  if (tensor == Py_None) return nullptr;
  void* found = address(called(torch().data_ptr.ptr(), &tensor, 1));
  if (!found) throw Decline();  // its storage was freed
  return found;
}

struct Tensor {
  py::object object = py::none();
  void* values = nullptr;
};

// A new tensor like x, of this dtype, as make(x, sizes...) gives it; `make` is Tensor.new, or what stands in for it.
inline Tensor made(PyObject* make, PyObject* x, DType dtype, std::initializer_list<int64_t> sizes) {
  Tensor t;
  if (torch().wrap && make == torch().new_.ptr()) {
    t.object = py::reinterpret_steal<py::object>(torch().make(dtype, sizes.begin(), int(sizes.size()), &t.values));
    if (t.object) return t;  // else there will be an error to tell
  }
  py::object held[kMostDimensions];
  PyObject* arguments[1 + kMostDimensions] = {x};
  size_t n = 0;
  for (const int64_t size : sizes) {
    held[n] = py::int_(size);
    arguments[n + 1] = held[n].ptr();
    ++n;
  }
  t.object = called(make, arguments, 1 + n);
  t.values = values(t.object.ptr());
  return t;
}

}  // namespace
}  // namespace fastrnn
