// The limits of the machine, for benchmarks/machine.py: multiply-adds and reads of memory at full speed.
//   probe THREADS L1_BYTES L2_BYTES L3_BYTES       prints one JSON object of GF/s and GB/s, all threads together
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
typedef float V __attribute__((vector_size(kBytes)));
#if defined(__aarch64__)
#define IN_REGISTER(v) asm volatile("" : "+w"(v))
#else
#define IN_REGISTER(v) asm volatile("" : "+x"(v))
#endif

constexpr int kSums = 12;  // more than latency times throughput of any multiply-add; fits 16 registers
constexpr int kUnroll = 16;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Work per second of all threads: each repeats `block`, which returns the work it did, from a common start until
// `duration` is over. The best of several goes counts, since a limit is what is possible.
template <class Block>
double rate(int threads, const Block& block, double duration = 0.06, int goes = 5) {
  double best = 0;
  for (int go = 0; go < goes; ++go) {
    std::atomic<int> ready{0};
    std::vector<double> rates(threads);
    auto body = [&](int t) {
      block(t);
      ++ready;
      while (ready < threads) {
      }
      double work = 0;
      const double start = seconds();
      double now = start;
      while (now - start < duration) {
        work += block(t);
        now = seconds();
      }
      rates[t] = work / (now - start);
    };
    std::vector<std::thread> team;
    for (int t = 1; t < threads; ++t) team.emplace_back(body, t);
    body(0);
    for (auto& thread : team) thread.join();
    double sum = 0;
    for (double r : rates) sum += r;
    best = sum > best ? sum : best;
  }
  return best * 1e-9;
}

// `n` rounds of `step` on each sum. Constant indices from the start keep the sums in registers.
template <class T, class Step, size_t... J>
void repeat(int n, T (&sum)[kSums], const Step& step, std::index_sequence<J...>) {
  for (int i = 0; i < n; ++i) (step(sum[J]), ...);
}

double fma_block(int) {
  V sum[kSums] = {}, a = V{} + 1.0f, b = V{} + 0.5f;
  IN_REGISTER(a);
  IN_REGISTER(b);
  constexpr int n = 2000;
  const auto step = [&](V& s) {
    s = a * b + s;
    IN_REGISTER(s);
  };
  repeat(n, sum, step, std::make_index_sequence<kSums>());
  return 2.0 * n * kSums * (kBytes / 4);
}

#ifdef __AVX512BF16__
double bf16_block(int) {
  __m512 sum[kSums] = {};
  __m512bh a = (__m512bh)_mm512_set1_epi16(0x3f80), b = a;
  constexpr int n = 2000;
  const auto step = [&](__m512& s) {
    s = _mm512_dpbf16_ps(s, a, b);
    IN_REGISTER(s);
  };
  repeat(n, sum, step, std::make_index_sequence<kSums>());
  return 4.0 * n * kSums * 16;
}
#endif

inline void load_one(const V* p) {
  V v = *p;
  IN_REGISTER(v);
}

template <size_t... J>
void load(const V* p, std::index_sequence<J...>) {
  (load_one(p + J), ...);
}

// Loads and nothing else, over a buffer of each thread's own: what one thread's share of the weights would be.
double read_rate(int threads, size_t bytes, double duration) {
  const size_t vectors = bytes / kBytes / kUnroll * kUnroll;
  std::vector<V*> buffers(threads);
  for (auto& b : buffers) {
    b = static_cast<V*>(std::aligned_alloc(4096, (vectors * kBytes + 4095) / 4096 * 4096));
    if (!b) std::exit(2);
    for (size_t i = 0; i < vectors; ++i) b[i] = V{} + 1.0f;
  }
  const size_t repeat = bytes < (1u << 20) ? (1u << 20) / bytes + 1 : 1;
  const double result = rate(
      threads,
      [&](int t) {
        const V* p = buffers[t];
        for (size_t r = 0; r < repeat; ++r)
          for (size_t i = 0; i < vectors; i += kUnroll) load(p + i, std::make_index_sequence<kUnroll>());
        return double(repeat) * vectors * kBytes;
      },
      duration);
  for (auto* b : buffers) std::free(b);
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 1;
  const int threads = std::atoi(argv[1]);
  const double l1 = std::atof(argv[2]), l2 = std::atof(argv[3]), l3 = std::atof(argv[4]);
  std::printf("{\"fma fp32 GF/s\": %.1f", rate(threads, fma_block));
#ifdef __AVX512BF16__
  std::printf(", \"bf16 dot GF/s\": %.1f", rate(threads, bf16_block));
#endif
  // Half of a level, but well above the level below; the third is shared by all threads, and of a server's hundreds of
  // MiB no layer's weights take more than some.
  std::printf(", \"read GB/s\": {\"L1\": %.1f", read_rate(threads, size_t(l1 / 2), 0.03));
  std::printf(", \"L2\": %.1f", read_rate(threads, size_t(l2 * 0.5), 0.03));
  std::printf(", \"L3\": %.1f", read_rate(threads, size_t(std::min(l3 / 2 / threads, 16.0 * (1 << 20))), 0.06));
  std::printf(", \"DRAM\": %.1f}}\n", read_rate(threads, size_t(std::min(l3 * 4, 1024.0 * (1 << 20)) / threads), 0.1));
}
