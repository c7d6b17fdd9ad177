// fastrnn._cpu: what belongs to no ISA: which of those that were built this processor runs, and repeated calls. Compiled
// for the baseline, so it can always be asked.
#include "again.h"

namespace fastrnn {
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
}  // namespace fastrnn

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "what this processor runs, and repeated calls (private)";
  m.def("supported", &fastrnn::supported, "ISA names, the best first");
  m.def("again", &fastrnn::make_again);
  m.def("repeated", &fastrnn::make_repeated);
}
