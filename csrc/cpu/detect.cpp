// fastrnn._cpu: which of the built ISAs this processor runs. Compiled for the baseline, so it can always be asked.
#include <pybind11/pybind11.h>

namespace py = pybind11;

namespace {

py::tuple supported() {
  py::list names;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
    names.append("avx512");
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) names.append("avx2");
#endif
  names.append("baseline");
  return py::tuple(names);
}

}  // namespace

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "what this processor runs";
  m.def("supported", &supported, "ISA names, the best first");
}
