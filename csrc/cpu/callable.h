// Functions of C++ that hold data of their own, as Python objects: called like a built-in, without what pybind11 does
// with arguments, since each step of decoding passes here.
#pragma once
#include <pybind11/pybind11.h>

#include <exception>
#include <initializer_list>
#include <new>

namespace fastrnn {
namespace {

namespace py = pybind11;

using FastFunction = PyObject* (*)(PyObject* self, PyObject* const* arguments, Py_ssize_t count);

// F with the capsule as its self
template <FastFunction F>
py::object method(const char* name, const py::capsule& self) {
  static PyMethodDef definition{name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(F)), METH_FASTCALL,
                                nullptr};
  auto made = py::reinterpret_steal<py::object>(PyCFunction_New(&definition, self.ptr()));
  if (!made) throw py::error_already_set();
  return made;
}

struct Decline {};  // None is the answer

// body(data): its result, a new reference, or a Python error. self: a capsule of this name with Data.
template <class Data, class F>
PyObject* guarded(PyObject* self, const char* capsule, Py_ssize_t count, Py_ssize_t least, Py_ssize_t most, F&& body) {
  if (count < least || count > most) return PyErr_Format(PyExc_TypeError, "got %zd arguments", count);
  const auto* data = static_cast<const Data*>(PyCapsule_GetPointer(self, capsule));
  if (!data) return nullptr;
  try {
    return body(*data).release().ptr();
  } catch (const Decline&) {
    Py_RETURN_NONE;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

// function(arguments...)
inline py::object called(PyObject* function, PyObject* const* arguments, size_t count) {
  auto result = py::reinterpret_steal<py::object>(PyObject_Vectorcall(function, arguments, count, nullptr));
  if (!result) throw py::error_already_set();
  return result;
}
inline py::object called(const py::object& function, std::initializer_list<PyObject*> arguments = {}) {
  return called(function.ptr(), arguments.begin(), arguments.size());
}

}  // namespace
}  // namespace fastrnn
