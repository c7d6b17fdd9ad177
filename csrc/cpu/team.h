// Threads. The team is the OpenMP runtime that the process already has (torch's): a second runtime, or threads of our
// own, would spin against it. It is found by symbol at run time, so this code is compiled without -fopenmp and links no
// runtime; libgomp, LLVM's libomp and Intel's libiomp5 all offer these three functions.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <sched.h>

namespace fastrnn {

struct OpenMP {
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;  // GOMP_parallel
  int (*thread_num)() = nullptr;                                           // omp_get_thread_num
  int (*num_threads)() = nullptr;                                          // omp_get_num_threads
};
extern OpenMP openmp;  // filled by module.cpp; empty: one thread

inline void cpu_relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins for a short while (a step's barrier usually takes well under a microsecond), then gives its core away, so that
// an oversubscribed machine slows down but does not stall.
class Barrier {
 public:
  void wait(int n) {
    const uint32_t generation = generation_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == n - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      generation_.store(generation + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; generation_.load(std::memory_order_acquire) == generation; ++spins)
      if (spins < 4096)
        cpu_relax();
      else
        sched_yield();
  }

  // Member::far_apart's answer, and whether it is to be measured in this call: from time to time, because where threads run
  // changes, and not in each call, because where threads share a core a barrier takes long.
  const bool measures = calls_.fetch_add(1, std::memory_order_relaxed) - measured_ >= 64;
  bool far_apart = far_;
  void remember(bool far) {
    far_ = far_apart = far;
    measured_ = calls_.load(std::memory_order_relaxed);
  }

 private:
  inline static std::atomic<uint32_t> calls_{64}, measured_{0};
  inline static std::atomic<bool> far_{false};
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> generation_{0};
};

// One member's view of the team.
struct Member {
  int id, n;
  Barrier* barrier;  // of more than one
  void sync() const {
    if (n > 1) barrier->wait(n);
  }
  // Whether what one of two members writes reaches the other slowly, as between chiplets; of more it was not measured. All
  // members call it, and get one answer, which depends on chance and may only decide how memory is written.
  // FASTRNN_FAR_APART=0 or 1 is the answer where it is set (tests).
  bool far_apart() const {
    static const char* const set = std::getenv("FASTRNN_FAR_APART");
    if (n != 2) return false;
    if (set) return *set == '1';
    if (barrier->measures) measure();
    return barrier->far_apart;
  }
  // The share of [0, total) that is this member's, cut at multiples of grain.
  void share(int64_t total, int64_t grain, int64_t& begin, int64_t& end) const {
    const int64_t blocks = (total + grain - 1) / grain;
    begin = blocks * id / n * grain;
    end = blocks * (id + 1) / n * grain;
    if (begin > total) begin = total;
    if (end > total) end = total;
  }

 private:
  // By the time that barriers take, the least of some times four, which a thread that is held up does not change: for two
  // threads 20 to 100 ns each on one chiplet, 250 and more between two. A single one is short for who comes last.
  void measure() const {
    using Clock = std::chrono::steady_clock;
    constexpr int rounds = 4;
    auto least = Clock::duration::max();
    sync();
    for (int times = 0; times < 4; ++times) {
      const auto start = Clock::now();
      for (int i = 0; i < rounds; ++i) sync();
      least = std::min(least, Clock::now() - start);
    }
    if (id == 0) barrier->remember(least > std::chrono::nanoseconds(rounds * 170));
    sync();
  }
};

// Runs body(member) on at most `threads` threads at once and returns when all are done. body must not throw.
template <class Body>
void run_team(int threads, Body& body) {
  if (threads <= 1 || !openmp.parallel) {
    body(Member{0, 1, nullptr});
    return;
  }
  Barrier barrier;
  struct Shared {
    Body& body;
    Barrier& barrier;
  } shared{body, barrier};
  openmp.parallel(
      [](void* p) {
        Shared& s = *static_cast<Shared*>(p);
        s.body(Member{openmp.thread_num(), openmp.num_threads(), &s.barrier});
      },
      &shared, unsigned(threads), 0);
}

}  // namespace fastrnn
