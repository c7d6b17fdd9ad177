// The Python binding, built once per ISA as fastrnn._kernels_<isa>. Pointers come as integers. fastrnn/_checks.py has
// seen every size and dtype; fastrnn/ops.py brings strides into form and keeps the tensors alive until the call
// returns.
#include <dlfcn.h>
#include <pybind11/pybind11.h>
#if defined(FASTRNN_WITH_AMX)
#if !defined(__linux__)
#error "AMX is asked for by a system call of Linux"
#endif
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>

#include "../cells/registry.h"
#include "fixed.h"
#include "layer.h"
#include "machine.h"
#include "team.h"

#define FASTRNN_STRING_(x) #x
#define FASTRNN_STRING(x) FASTRNN_STRING_(x)
#define FASTRNN_CONCAT_(a, b) a##b
#define FASTRNN_CONCAT(a, b) FASTRNN_CONCAT_(a, b)

namespace py = pybind11;

namespace fastrnn {

OpenMP openmp;

namespace {

template <class F>
F symbol(void* library, const char* name) {
  return reinterpret_cast<F>(dlsym(library, name));
}

// Takes the OpenMP runtime from `library` (a path that is loaded already), or, if empty, from the global symbols.
// Returns the path of the runtime, or an empty string: then every call runs on one thread.
std::string use_openmp(const std::string& library) {
  openmp = OpenMP{};
  void* handle = library.empty() ? RTLD_DEFAULT : dlopen(library.c_str(), RTLD_NOW | RTLD_NOLOAD);
  if (!library.empty() && !handle) return "";
  OpenMP found;
  found.parallel = symbol<decltype(found.parallel)>(handle, "GOMP_parallel");
  found.thread_num = symbol<decltype(found.thread_num)>(handle, "omp_get_thread_num");
  found.num_threads = symbol<decltype(found.num_threads)>(handle, "omp_get_num_threads");
  Dl_info info{};
  if (!found.parallel || !found.thread_num || !found.num_threads ||
      !dladdr(reinterpret_cast<void*>(found.parallel), &info))
    return "";
  openmp = found;
  return info.dli_fname ? info.dli_fname : "unknown";
}

struct BarrierRounds {
  int rounds;
  void operator()(const Member& m) const {
    for (int i = 0; i < rounds; ++i) m.sync();
  }
};

double barrier_ns(int threads) {
  BarrierRounds rounds{20000};
  run_team(threads, rounds);
  const auto start = std::chrono::steady_clock::now();
  run_team(threads, rounds);
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count() / rounds.rounds;
}

template <class P = void*>
P pointer(int64_t address) {
  return reinterpret_cast<P>(static_cast<uintptr_t>(address));
}

using Address = int64_t;

Layer layer(int64_t T, int64_t B, int64_t I, int64_t H, int64_t P, Address batch_sizes, bool reverse, int dtype,
            int threads) {
  return Layer{T, B, I, H, P, pointer<const int64_t*>(batch_sizes), reverse, DType(dtype), threads};
}

// How bf16 data are multiplied: as fp32, by dot products of pairs or by matrix tiles.
enum class Bf16 { fp32, dots, amx };

bool has(Bf16 way) {
#if defined(FASTRNN_WITH_DOTS)
  if (way == Bf16::dots) return __builtin_cpu_supports("avx512bf16");
#endif
#if defined(FASTRNN_WITH_AMX)
  if (way == Bf16::amx) {
    unsigned a, b, c, d;
    constexpr unsigned tiles = 1u << 24, bf16 = 1u << 22;
    // The system keeps tiles for a process only once it has asked for them, and may refuse.
    constexpr long ask_for = 0x1023, tile_data = 18;
    // calls of a few rows use dot products there
    return has(Bf16::dots) && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & tiles) && (d & bf16) &&
           syscall(SYS_arch_prctl, ask_for, tile_data) == 0;
  }
#endif
  return way == Bf16::fp32;
}

// FASTRNN_BF16=fp32|dots|amx where that is there, else the fastest that is: a dot product takes Intel's processors twice
// as long as two fp32 multiply-adds, and AMD's half as long.
Bf16 bf16() {
  static const Bf16 chosen = [] {
    const char* forced = std::getenv("FASTRNN_BF16");
    const std::string name = forced ? forced : "";
    if (name == "fp32" || (name == "dots" && !has(Bf16::dots))) return Bf16::fp32;
    if (name != "dots" && has(Bf16::amx)) return Bf16::amx;
    return name == "dots" || (has(Bf16::dots) && machine().fast_dots) ? Bf16::dots : Bf16::fp32;
  }();
  return chosen;
}

const char* bf16_name() { return bf16() == Bf16::amx ? "amx" : bf16() == Bf16::dots ? "dots" : "fp32"; }

struct Unit {
  void (*forward)(int, const ForwardArgs&);
  void (*backward)(int, const BackwardArgs&);
};

Unit unit_for(DType dtype) {
  if (dtype == DType::f64) return {layer_forward<double>, layer_backward<double>};
#if defined(FASTRNN_WITH_AMX)
  if (dtype == DType::bf16 && bf16() == Bf16::amx)
    return {FASTRNN_WITH_AMX::layer_forward<float>, FASTRNN_WITH_AMX::layer_backward<float>};
#endif
#if defined(FASTRNN_WITH_DOTS)
  if (dtype == DType::bf16 && bf16() == Bf16::dots)
    return {FASTRNN_WITH_DOTS::layer_forward<float>, FASTRNN_WITH_DOTS::layer_backward<float>};
#endif
  return {layer_forward<float>, layer_backward<float>};
}

}  // namespace

void run_forward(int cell, const ForwardArgs& args) { unit_for(args.layer.dtype).forward(cell, args); }
void run_backward(int cell, const BackwardArgs& args) { unit_for(args.layer.dtype).backward(cell, args); }

namespace {

void forward(int cell, int64_t T, int64_t B, int64_t I, int64_t H, int64_t P, Address batch_sizes, bool reverse,
             int dtype, int threads, Address w_ih, Address w_hh, Address b_ih, Address b_hh, Address w_hr,
             Address packed, Address x, int64_t x_step, int64_t x_row, Address hx, Address cx, Address y,
             int64_t y_step, int64_t y_row, Address h_n, Address c_n, Address reserve) {
  const ForwardArgs args{layer(T, B, I, H, P, batch_sizes, reverse, dtype, threads),
                         {pointer(w_ih), pointer(w_hh), pointer(b_ih), pointer(b_hh), pointer(w_hr), pointer(packed)},
                         {pointer(x), x_step, x_row},
                         pointer(hx),
                         pointer(cx),
                         {pointer(y), y_step, y_row},
                         pointer(h_n),
                         pointer(c_n),
                         pointer(reserve)};
  py::gil_scoped_release release;
  run_forward(cell, args);
}

void backward(int cell, int64_t T, int64_t B, int64_t I, int64_t H, int64_t P, Address batch_sizes, bool reverse,
              int dtype, int threads, Address w_ih, Address w_hh, Address b_ih, Address b_hh, Address w_hr, Address x,
              int64_t x_step, int64_t x_row, Address hx, Address cx, Address y, int64_t y_step, int64_t y_row,
              Address reserve, Address dy, int64_t dy_step, int64_t dy_row, Address dh_n, Address dc_n, Address dx,
              Address dhx, Address dcx, Address dw_ih, Address dw_hh, Address db_ih, Address db_hh, Address dw_hr) {
  const BackwardArgs args{layer(T, B, I, H, P, batch_sizes, reverse, dtype, threads),
                          {pointer(w_ih), pointer(w_hh), pointer(b_ih), pointer(b_hh), pointer(w_hr)},
                          {pointer(x), x_step, x_row},
                          pointer(hx),
                          pointer(cx),
                          {pointer(y), y_step, y_row},
                          pointer(reserve),
                          {pointer(dy), dy_step, dy_row},
                          pointer(dh_n),
                          pointer(dc_n),
                          pointer(dx),
                          pointer(dhx),
                          pointer(dcx),
                          pointer(dw_ih),
                          pointer(dw_hh),
                          pointer(db_ih),
                          pointer(db_hh),
                          pointer(dw_hr)};
  py::gil_scoped_release release;
  run_backward(cell, args);
}

int64_t packing(int cell, bool rounded, int64_t I, int64_t H, int64_t R, Address w_ih, Address w_hh, Address dst) {
  return pack_weights(cell, rounded, I, H, R, pointer<const float*>(w_ih), pointer<const float*>(w_hh),
                      pointer<uint32_t*>(dst));
}

// Values for each row, and once.
std::pair<int64_t, int64_t> reserve(int cell, int dtype, int64_t H) {
  const auto size = [&](int64_t rows) {
    return DType(dtype) == DType::f64 ? reserve_size<double>(cell, rows, H) : reserve_size<float>(cell, rows, H);
  };
  return {size(1) - size(0), size(0)};
}

py::tuple cell_names() {
  py::list names;
#define FASTRNN_NAME(name, type) names.append(#name);
  FASTRNN_CELLS(FASTRNN_NAME)
#undef FASTRNN_NAME
  return py::tuple(names);
}

}  // namespace
}  // namespace fastrnn

PYBIND11_MODULE(FASTRNN_CONCAT(_kernels_, FASTRNN_ISA), m) {
  m.doc() = "fastrnn kernels, one layer and direction (private: use fastrnn.ops)";
  m.attr("ISA") = FASTRNN_STRING(FASTRNN_ISA);
  m.attr("CELLS") = fastrnn::cell_names();
  m.def("forward", &fastrnn::forward);
  m.def("backward", &fastrnn::backward);
  m.def("fixed", &fastrnn::fixed);
  m.def("makes_tensors", [] { return fastrnn::torch().wrap != nullptr; });
  m.def("pack_weights", &fastrnn::packing);
  m.def("reserve_size", &fastrnn::reserve);
  m.def("bf16", &fastrnn::bf16_name);
  m.def("use_openmp", &fastrnn::use_openmp);
  m.def("barrier_ns", &fastrnn::barrier_ns);
}
