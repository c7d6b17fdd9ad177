// The device of csrc/cuda/device.cuh on a CPU: every thread is a fiber, so that kernels compiled by an ordinary compiler
// run and can be tested without a GPU. Fibers take turns at barriers and polls, in an order that FASTRNN_EMULATED_ORDER
// changes (0: ascending, 1: descending, 2 and more: shuffled by that seed), so that a missing barrier shows; shared memory
// starts as NaN. What it cannot show: memory ordering between real threads, and time.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "../../csrc/cpu/storage.h"

#define FASTRNN_KERNEL
#define FASTRNN_DEVICE inline
#define FASTRNN_BOTH inline
#define FASTRNN_BOUNDS(threads)

namespace fastrnn {
namespace cuda {
namespace emulated {

constexpr size_t kStack = 64 << 10;

struct Barrier {
  int expected = 0, arrived = 0;
  unsigned generation = 0;
  bool any[2] = {false, false};  // what sync_threads_or gathers, by generation
};
struct Warp {
  Barrier barrier;
  uint32_t lane[2][32][8];
};
struct Block {
  int x, y;
  std::vector<unsigned char> shared;
  Barrier barrier;
  std::vector<Warp> warps;
  Barrier* cluster = nullptr;
  std::vector<Block>* all = nullptr;
  int first = 0;  // of its cluster, in `all`
};
struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  Block* block = nullptr;
  int thread = 0;
  unsigned collectives = 0;
  bool done = true;
};

inline ucontext_t scheduler;
inline Fiber* running = nullptr;
inline const std::function<void()>* body = nullptr;
inline int grid_x = 1;

inline void yield() { swapcontext(&running->context, &scheduler); }
inline void enter() {
  (*body)();
  running->done = true;
  yield();
}
inline void wait(Barrier& b) {
  const unsigned mine = b.generation;
  if (++b.arrived == b.expected) {
    b.arrived = 0;
    ++b.generation;
    return;
  }
  while (b.generation == mine) yield();
}
inline Warp& warp() { return running->block->warps[size_t(running->thread / 32)]; }

// Every lane gives 8 words and sees those of all.
inline const uint32_t (*exchange(const uint32_t (&words)[8]))[8] {
  Warp& w = warp();
  auto& slot = w.lane[running->collectives++ & 1];
  std::memcpy(slot[running->thread % 32], words, sizeof words);
  wait(w.barrier);
  return slot;
}

inline void run(std::vector<Block>& blocks, size_t first, size_t count, int threads) {
  static std::vector<Fiber*> pool;
  const char* text = std::getenv("FASTRNN_EMULATED_ORDER");
  const int order = text ? std::atoi(text) : 0;
  std::vector<Fiber*> fibers;
  for (size_t b = first; b < first + count; ++b)
    for (int t = 0; t < threads; ++t) {
      if (pool.size() == fibers.size()) pool.push_back(new Fiber);
      Fiber* f = pool[fibers.size()];
      fibers.push_back(f);
      f->stack.resize(kStack);
      f->block = &blocks[b];
      f->thread = t;
      f->collectives = 0;
      f->done = false;
      getcontext(&f->context);
      f->context.uc_stack.ss_sp = f->stack.data();
      f->context.uc_stack.ss_size = kStack;
      f->context.uc_link = nullptr;
      makecontext(&f->context, enter, 0);
    }
  if (order == 1) std::reverse(fibers.begin(), fibers.end());
  std::mt19937 random{unsigned(order)};
  while (!fibers.empty()) {
    if (order > 1) std::shuffle(fibers.begin(), fibers.end(), random);
    for (Fiber* f : fibers) {
      running = f;
      swapcontext(&scheduler, &f->context);
    }
    fibers.erase(std::remove_if(fibers.begin(), fibers.end(), [](Fiber* f) { return f->done; }), fibers.end());
  }
}

template <class E>
inline E part(uint32_t word, int i) {
  E e;
  std::memcpy(&e, reinterpret_cast<const char*>(&word) + size_t(i) * sizeof(E), sizeof e);
  return e;
}

// The fragments of the PTX manual: K values of E a row, 4 / sizeof(E) to a word.
template <class E, int K, class Value>
inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Value&& value) {
  constexpr int P = 4 / int(sizeof(E)), H = K / 2;  // values a word; half of k lies in the second word
  const uint32_t words[8] = {a[0], a[1], a[2], a[3], b0, b1, 0, 0};
  const auto* lanes = exchange(words);
  const int lane = running->thread % 32;
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + (i / 2) * 8, column = lane % 4 * 2 + i % 2;
    float sum = c[i];
    for (int k = 0; k < K; ++k) {
      const int j = k % H / P, half = k / H;
      const uint32_t aw = lanes[row % 8 * 4 + j][half * 2 + row / 8], bw = lanes[column * 4 + j][4 + half];
      sum += value(part<E>(aw, k % P)) * value(part<E>(bw, k % P));
    }
    c[i] = sum;
  }
}

}  // namespace emulated

inline int thread_index() { return emulated::running->thread; }
inline int block_x() { return emulated::running->block->x; }
inline int block_y() { return emulated::running->block->y; }
inline int blocks_x() { return emulated::grid_x; }
inline void sync_threads() { emulated::wait(emulated::running->block->barrier); }
inline bool sync_threads_or(bool any) {
  emulated::Barrier& b = emulated::running->block->barrier;
  const unsigned mine = b.generation & 1;
  if (b.arrived == 0) b.any[mine] = false;
  b.any[mine] = b.any[mine] || any;
  emulated::wait(b);
  return b.any[mine];
}
inline void sync_warp() { emulated::wait(emulated::warp().barrier); }
inline unsigned char* shared_memory() { return emulated::running->block->shared.data(); }

inline float from_bf16(uint16_t v) { return fastrnn::from_bf16<float>(uint32_t(v)); }
inline float from_f16(uint16_t v) { return fastrnn::from_f16<float>(uint32_t(v)); }
inline uint16_t to_bf16(float v) { return uint16_t(fastrnn::to_bf16<float, uint32_t>(v)); }
inline uint16_t to_f16(float v) { return uint16_t(fastrnn::to_f16<float, uint32_t>(v)); }
inline float to_tf32(float v) {
  if (v != v || std::isinf(v)) return v;
  return bit_cast<float>((bit_cast<uint32_t>(v) + 0x1000u) & ~0x1fffu);
}
inline float as_float(uint32_t v) { return bit_cast<float>(v); }
inline uint32_t as_bits(float v) { return bit_cast<uint32_t>(v); }

template <class T>
inline T opaque(T v) {
  return v;
}
inline float fast_exp(float x) { return std::exp(x); }
inline float fast_divide(float a, float b) { return a / b; }

inline uint32_t shuffle_xor(uint32_t v, int mask) {
  const uint32_t words[8] = {v, 0, 0, 0, 0, 0, 0, 0};
  return emulated::exchange(words)[(emulated::running->thread % 32) ^ mask][0];
}

inline void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulated::mma<uint16_t, 16>(c, a, b0, b1, [](uint16_t v) { return from_bf16(v); });
}
inline void mma_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulated::mma<uint16_t, 16>(c, a, b0, b1, [](uint16_t v) { return from_f16(v); });
}
inline void mma_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulated::mma<float, 8>(c, a, b0, b1, [](float v) { return to_tf32(v); });
}

// A device takes 16 bytes at once at multiples of 16 only.
template <class P>
inline P* aligned(P* p) {
  if (reinterpret_cast<uintptr_t>(p) % 16 == 0) return p;
  std::fprintf(stderr, "emulated: 16 bytes at an address that is no multiple of 16\n");
  std::abort();
}
inline Piece load_piece(const Piece* p) { return *aligned(p); }
inline Piece load_still(const Piece* p) { return *aligned(p); }
inline void store_piece(Piece* p, Piece v) { *aligned(p) = v; }
inline Piece load_relaxed(const Piece* p) { return *aligned(p); }
inline void store_relaxed(Piece* p, const Piece& v) { *aligned(p) = v; }
inline void copy_piece(Piece* shared, const Piece* from) { *aligned(shared) = *aligned(from); }
inline void commit_copies() {}
template <int N>
inline void await_copies() {}
inline uint32_t load_acquire(const uint32_t* p) { return *p; }
inline void add_release(uint32_t* p, uint32_t v) { *p += v; }
template <class T>
inline T load_device(const T* p) {
  return *p;
}
inline void store_system(uint32_t* p, uint32_t v) { *p = v; }
inline void fence_device() {}
inline uint64_t nanoseconds() {
  static uint64_t ticks = 0;  // a clock of polls: what waits forever times out soon
  return ticks += 100;
}
inline void pause() { emulated::yield(); }

inline void sync_cluster() { emulated::wait(*emulated::running->block->cluster); }

// A barrier with bytes, in the 64 bits that the hardware's takes: phase, arrivals still to come, bytes still to come.
struct EmulatedBarrier {
  uint16_t phase;
  uint16_t expected : 8, pending : 8;
  int32_t bytes;
  void end() {
    if (pending == 0 && bytes == 0) ++phase, pending = expected;
  }
};
static_assert(sizeof(EmulatedBarrier) == 8, "as large as the real one");
inline void barrier_init(uint64_t* bar, unsigned arrivals) {
  EmulatedBarrier b{};
  b.expected = b.pending = uint8_t(arrivals);
  std::memcpy(bar, &b, 8);
}
inline void barrier_expect(uint64_t* bar, unsigned bytes) {
  auto* b = reinterpret_cast<EmulatedBarrier*>(bar);
  b->bytes += int32_t(bytes);
  b->pending = uint8_t(b->pending - 1);
  b->end();
}
inline bool barrier_done(uint64_t* bar, unsigned parity) {
  return (reinterpret_cast<EmulatedBarrier*>(bar)->phase & 1) != parity;
}
struct Remote {
  unsigned char* base;
};
inline Remote remote_memory(const void* base, unsigned rank) {
  emulated::Block& mine = *emulated::running->block;
  emulated::Block& other = (*mine.all)[size_t(mine.first) + rank];
  return {other.shared.data() + (static_cast<const unsigned char*>(base) - mine.shared.data())};
}
inline void send_piece(Remote to, unsigned at, Piece v, unsigned bar) {
  *reinterpret_cast<Piece*>(to.base + at) = v;
  auto* b = reinterpret_cast<EmulatedBarrier*>(to.base + bar);
  b->bytes -= 16;
  b->end();
}

// An imagined H100; FASTRNN_EMULATED_AT_ONCE says how many clusters, or blocks of a cooperative launch, it runs at once.
inline DeviceFacts device_facts() { return {90, 132, 227 << 10, true}; }
template <class... P>
inline int64_t at_once(void (*)(P...), const Launch& l) {
  const char* text = std::getenv("FASTRNN_EMULATED_AT_ONCE");
  return text ? std::atoi(text) : l.cooperative ? 132 : 7;
}

template <class... P>
inline void launch(void (*kernel)(P...), const Launch& l, P... args) {
  using namespace emulated;
  if (l.threads % 32 || l.threads > 1024 || l.grid_x % l.cluster || l.cluster > 16 || l.shared > (227u << 10) ||
      l.grid_x == 0 || l.grid_y == 0 || l.grid_y > 65535 ||
      (l.cooperative && int64_t(l.grid_x) * l.grid_y > at_once(kernel, l)))
    throw std::runtime_error("emulated: a launch that no device takes");
  const std::function<void()> call = [&] { kernel(args...); };
  body = &call;
  grid_x = int(l.grid_x);
  std::vector<Block> blocks(l.grid_x * l.grid_y);
  std::vector<Barrier> clusters(blocks.size() / l.cluster);
  for (size_t i = 0; i < blocks.size(); ++i) {
    Block& b = blocks[i];
    b.x = int(i % l.grid_x), b.y = int(i / l.grid_x);
    b.barrier.expected = int(l.threads);
    b.warps.resize(l.threads / 32);
    for (Warp& w : b.warps) w.barrier.expected = 32;
    clusters[i / l.cluster].expected = int(l.threads * l.cluster);
    b.cluster = &clusters[i / l.cluster];
    b.all = &blocks;
    b.first = int(i / l.cluster * l.cluster);
  }
  const size_t together = l.cooperative ? blocks.size() : l.cluster;
  for (size_t i = 0; i < blocks.size(); i += together) {
    for (size_t b = i; b < i + together; ++b) blocks[b].shared.assign(l.shared, 0xff);
    run(blocks, i, together, int(l.threads));
  }
}

}  // namespace cuda
}  // namespace fastrnn
