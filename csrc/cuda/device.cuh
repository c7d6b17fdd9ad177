// What the kernels know of the device: thread numbers, barriers, matrix instructions, memory ordering, clusters, launches.
// The only file with intrinsics and PTX. Compiled by an ordinary C++ compiler, the same names come from the emulation of
// the tests (tests/cpp/emulated.h), which runs every thread as a fiber.
#pragma once
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <tuple>

#include "../problem.h"
#include "plan.h"

namespace fastrnn {
namespace cuda {

// 16 bytes: what one lane loads at once
struct alignas(16) Piece {
  uint32_t w[4];
};

struct Launch {
  unsigned grid_x = 1, grid_y = 1, threads = 1;
  unsigned shared = 0;  // bytes of dynamic shared memory
  void* stream = nullptr;
  unsigned cluster = 1;      // blocks of a cluster, along x
  bool cooperative = false;  // all blocks run at once
};

}  // namespace cuda
}  // namespace fastrnn

#if !defined(__CUDACC__)
#include "emulated.h"
#else
#include <cuda_runtime.h>

#define FASTRNN_KERNEL __global__
#define FASTRNN_DEVICE __device__ __forceinline__
#define FASTRNN_BOTH __host__ __device__ __forceinline__
// One block a processor is enough: without the 1, ptxas spills a few bytes for the sake of more.
#define FASTRNN_BOUNDS(threads) __launch_bounds__(threads, 1)

namespace fastrnn {
namespace cuda {

FASTRNN_DEVICE int thread_index() { return int(threadIdx.x); }
FASTRNN_DEVICE int block_x() { return int(blockIdx.x); }
FASTRNN_DEVICE int block_y() { return int(blockIdx.y); }
FASTRNN_DEVICE int blocks_x() { return int(gridDim.x); }
FASTRNN_DEVICE void sync_threads() { __syncthreads(); }
// A barrier that says whether any thread of the block came with true.
FASTRNN_DEVICE bool sync_threads_or(bool any) { return __syncthreads_or(any) != 0; }
FASTRNN_DEVICE void sync_warp() { __syncwarp(); }

FASTRNN_DEVICE unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
}

// ---- storage types -------------------------------------------------------------------------------------------------
FASTRNN_DEVICE float from_bf16(uint16_t v) { return __uint_as_float(uint32_t(v) << 16); }
FASTRNN_DEVICE uint16_t to_bf16(float v) {
  uint16_t r;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(v));
  return r;
}
FASTRNN_DEVICE float from_f16(uint16_t v) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(v));
  return r;
}
FASTRNN_DEVICE uint16_t to_f16(float v) {
  uint16_t r;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(v));
  return r;
}
FASTRNN_DEVICE float to_tf32(float v) {
  uint32_t r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(v));
  return __uint_as_float(r);
}
FASTRNN_DEVICE float as_float(uint32_t v) { return __uint_as_float(v); }
FASTRNN_DEVICE uint32_t as_bits(float v) { return __float_as_uint(v); }

// The value, of which the compiler does not know how to compute it again.
FASTRNN_DEVICE int opaque(int v) {
  asm volatile("" : "+r"(v));
  return v;
}
FASTRNN_DEVICE int64_t opaque(int64_t v) {
  asm volatile("" : "+l"(v));
  return v;
}

// ---- by the special function unit, to a few units in the last place ----------------------------------------------------
FASTRNN_DEVICE float fast_exp(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x * 1.4426950408889634f));
  return r;
}
FASTRNN_DEVICE float fast_divide(float a, float b) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(b));
  return a * r;
}

// The value of lane ^ mask; all lanes of the warp together.
FASTRNN_DEVICE uint32_t shuffle_xor(uint32_t v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }

// ---- matrix instructions: c (16, 8) += a (16, k) b (k, 8), fragments as in the PTX manual ----------------------------
#define FASTRNN_MMA(name, shape, type)                                                        \
  FASTRNN_DEVICE void name(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) { \
    asm volatile("mma.sync.aligned." shape ".row.col.f32." type "." type                      \
                 ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                 \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                             \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));             \
  }
FASTRNN_MMA(mma_bf16, "m16n8k16", "bf16")
FASTRNN_MMA(mma_f16, "m16n8k16", "f16")
FASTRNN_MMA(mma_tf32, "m16n8k8", "tf32")
#undef FASTRNN_MMA

// ---- memory that other blocks write while this kernel runs: past the first-level cache --------------------------------
FASTRNN_DEVICE Piece load_piece(const Piece* p) {
  const uint4 v = __ldcg(reinterpret_cast<const uint4*>(p));
  return {{v.x, v.y, v.z, v.w}};
}
// Memory that nobody writes meanwhile.
FASTRNN_DEVICE Piece load_still(const Piece* p) { return *p; }
FASTRNN_DEVICE void store_piece(Piece* p, Piece v) {
  __stcg(reinterpret_cast<uint4*>(p), make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]));
}
// The same where another block writes at the same time: each word is what it was before or is after.
FASTRNN_DEVICE Piece load_relaxed(const Piece* p) {
  Piece v;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
               : "l"(p)
               : "memory");
  return v;
}
FASTRNN_DEVICE void store_relaxed(Piece* p, const Piece& v) {
  asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1,%2,%3,%4};" ::"l"(p), "r"(v.w[0]), "r"(v.w[1]), "r"(v.w[2]),
               "r"(v.w[3])
               : "memory");
}
// A copy into this block's shared memory, past the first-level cache and without registers. A thread's copies since the
// last commit are one group; await_copies<N> waits until all of its groups but the last N are there, for this thread.
FASTRNN_DEVICE void copy_piece(Piece* shared, const Piece* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(uint32_t(__cvta_generic_to_shared(shared))), "l"(from)
               : "memory");
}
FASTRNN_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
FASTRNN_DEVICE void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
FASTRNN_DEVICE uint32_t load_acquire(const uint32_t* p) {
  uint32_t v;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
FASTRNN_DEVICE void add_release(uint32_t* p, uint32_t v) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
template <class T>
FASTRNN_DEVICE T load_device(const T* p) {
  return __ldcg(p);
}
FASTRNN_DEVICE void fence_device() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }
FASTRNN_DEVICE void store_system(uint32_t* p, uint32_t v) {
  asm volatile("st.relaxed.sys.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
FASTRNN_DEVICE uint64_t nanoseconds() {
  uint64_t t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
  return t;
}
FASTRNN_DEVICE void pause() {}

// ---- clusters (sm_90 and later) ----------------------------------------------------------------------------------------
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define FASTRNN_CLUSTERS(...) __trap()
#else
#define FASTRNN_CLUSTERS(...) __VA_ARGS__
#endif

FASTRNN_DEVICE uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

// All threads of the cluster; writes before it are seen after it.
FASTRNN_DEVICE void sync_cluster() {
  FASTRNN_CLUSTERS(
      asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" :: : "memory"));
}
FASTRNN_DEVICE void barrier_init(uint64_t* bar, unsigned arrivals) {
  FASTRNN_CLUSTERS(asm volatile(
      "mbarrier.init.shared::cta.b64 [%0], %1;\nfence.mbarrier_init.release.cluster;" ::"r"(shared_address(bar)),
      "r"(arrivals) : "memory"));
}
// One arrival, and so many bytes to come before the phase ends.
FASTRNN_DEVICE void barrier_expect(uint64_t* bar, unsigned bytes) {
  FASTRNN_CLUSTERS(asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(bar)),
                                "r"(bytes) : "memory"));
}
// Whether the phase of this parity has ended; waits for a while of the hardware's choice. What the barrier counted lies in
// this block's shared memory, so the block's scope does in practice, though others of the cluster wrote it and the model of
// PTX asks for a scope that has both; at the cluster's, each wait would throw away the first-level cache and with it what
// is on its way there.
FASTRNN_DEVICE bool barrier_done(uint64_t* bar, unsigned parity) {
  uint32_t done = 0;
  FASTRNN_CLUSTERS(
      asm volatile("{\n.reg .pred p;\n"
                   "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                   "selp.u32 %0, 1, 0, p;\n}" : "=r"(done) : "r"(shared_address(bar)),
                   "r"(parity) : "memory"));
  return done != 0;
}
// This block's shared memory from `base` on, as another block of the cluster has it.
struct Remote {
  uint32_t base;
};
FASTRNN_DEVICE Remote remote_memory(const void* base, unsigned rank) {
  Remote r{0};
  FASTRNN_CLUSTERS(asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r.base) : "r"(shared_address(base)), "r"(rank)));
  return r;
}
// Writes a piece there, at that many bytes, and counts its bytes at the barrier that lies at `bar`.
FASTRNN_DEVICE void send_piece(Remote to, unsigned at, Piece v, unsigned bar) {
  FASTRNN_CLUSTERS(asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1,%2,%3,%4}, [%5];" ::"r"(to.base +
                                                                                                           at),
      "r"(v.w[0]), "r"(v.w[1]), "r"(v.w[2]), "r"(v.w[3]), "r"(to.base + bar) : "memory"));
}

// ---- launches -----------------------------------------------------------------------------------------------------------
inline void check(cudaError_t e, const char* what) {
  if (e != cudaSuccess)
    throw std::runtime_error(std::string("fastrnn: ") + what + ": " + cudaGetErrorName(e) + ", " +
                             cudaGetErrorString(e));
}

inline DeviceFacts device_facts() {
  static DeviceFacts known[64];  // filled once a device; two threads that fill one write the same
  int device = 0;
  check(cudaGetDevice(&device), "device");
  DeviceFacts d = known[device % 64];
  if (d.processors == 0) {
    const auto get = [&](cudaDeviceAttr a) {
      int v = 0;
      check(cudaDeviceGetAttribute(&v, a, device), "device attribute");
      return v;
    };
    d.capability = 10 * get(cudaDevAttrComputeCapabilityMajor) + get(cudaDevAttrComputeCapabilityMinor);
    d.shared = get(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    d.cooperative = get(cudaDevAttrCooperativeLaunch) != 0;
    d.processors = get(cudaDevAttrMultiProcessorCount);
    known[device % 64] = d;
  }
  return d;
}

// What a launch asks for beside grid and block.
template <class... P>
class LaunchConfig {
 public:
  LaunchConfig(void (*kernel)(P...), const Launch& l) {
    if (l.shared > (48u << 10))
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(l.shared)), "shared memory");
    if (l.cluster > 8)
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "cluster size");
    config_.gridDim = dim3(l.grid_x, l.grid_y);
    config_.blockDim = dim3(l.threads);
    config_.dynamicSmemBytes = l.shared;
    config_.stream = static_cast<cudaStream_t>(l.stream);
    config_.attrs = attribute_;
    if (l.cluster > 1) {
      auto& a = attribute_[config_.numAttrs++];
      a.id = cudaLaunchAttributeClusterDimension;
      a.val.clusterDim.x = l.cluster;
      a.val.clusterDim.y = a.val.clusterDim.z = 1;
    }
    if (l.cooperative) {
      auto& a = attribute_[config_.numAttrs++];
      a.id = cudaLaunchAttributeCooperative;
      a.val.cooperative = 1;
    }
  }
  LaunchConfig(const LaunchConfig&) = delete;
  LaunchConfig& operator=(const LaunchConfig&) = delete;
  const cudaLaunchConfig_t* get() const { return &config_; }

 private:
  cudaLaunchConfig_t config_{};
  cudaLaunchAttribute attribute_[2];
};

// Clusters, or blocks of a cooperative launch, that can run at once.
template <class... P>
inline int64_t at_once(void (*kernel)(P...), const Launch& l) {
  // the driver takes long to answer, and calls come by thousands
  static thread_local std::map<std::tuple<void (*)(P...), int, unsigned, unsigned>, int64_t> known;
  int device = 0;
  check(cudaGetDevice(&device), "device");
  const auto key = std::make_tuple(kernel, device, l.shared, l.cooperative ? 0 : l.cluster);
  if (const auto found = known.find(key); found != known.end()) return found->second;
  Launch one = l;  // the answer is the same for every number of clusters
  one.grid_y = 1;
  const LaunchConfig<P...> config(kernel, one);
  int count = 0;
  if (l.cooperative) {
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&count, kernel, int(l.threads), l.shared), "occupancy");
    count *= device_facts().processors;
  } else {
    const cudaError_t error = cudaOccupancyMaxActiveClusters(&count, kernel, config.get());
    if (error == cudaErrorInvalidClusterSize) {
      cudaGetLastError();  // the question itself is the error: such a cluster cannot be
      count = 0;
    } else {
      check(error, "clusters at once");
    }
  }
  return known[key] = count;
}

template <class... P>
inline void launch(void (*kernel)(P...), const Launch& l, P... args) {
  const LaunchConfig<P...> config(kernel, l);
  check(cudaLaunchKernelEx(config.get(), kernel, args...), "launch");
}

}  // namespace cuda
}  // namespace fastrnn
#endif
