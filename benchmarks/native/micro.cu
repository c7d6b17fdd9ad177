// What the device charges for the parts that a step of the persistent kernels is made of, with the same instructions
// (csrc/cuda/device.cuh): barriers, an exchange within a cluster, flags through the second-level cache, matrix
// instructions, launches. Prints a table; with a file's name as argument it writes JSON there too.
//
//   nvcc -std=c++17 -O3 -arch=native benchmarks/native/micro.cu -o micro && ./micro micro.json
#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include "../../csrc/cuda/device.cuh"

using namespace fastrnn::cuda;

namespace {

constexpr int kThreads = 256;
constexpr uint32_t kEmpty = 0xffffffffu;

__global__ void block_barrier(int steps) {
  for (int s = 0; s < steps; ++s) sync_threads();
}

__global__ void cluster_barrier(int steps) {
  for (int s = 0; s < steps; ++s) sync_cluster();
}

// Every block sends `own` pieces to every block of its cluster and waits for those of all: a step of tier a, without
// product and cell.
__global__ void cluster_exchange(int steps, int own) {
  Piece* first = reinterpret_cast<Piece*>(shared_memory());
  const int blocks = blocks_x(), pieces = own * blocks, mine = block_x() * own;
  uint64_t* bar = reinterpret_cast<uint64_t*>(first + 2 * pieces);
  if (thread_index() == 0)
    for (int i = 0; i < 2; ++i) {
      barrier_init(bar + i, 1);
      barrier_expect(bar + i, unsigned(pieces) * 16);
    }
  sync_cluster();
  for (int s = 0; s < steps; ++s) {
    for (int i = thread_index(); i < own * blocks; i += kThreads)
      send_piece(remote_memory(first, unsigned(i / own)), unsigned(s % 2 * pieces + mine + i % own) * 16,
                 Piece{{1, 2, 3, 4}}, unsigned(2 * pieces * 16 + s % 2 * 8));
    while (!barrier_done(bar + s % 2, unsigned(s / 2) & 1)) {
    }
    if (thread_index() == 0) barrier_expect(bar + s % 2, unsigned(pieces) * 16);
    sync_threads();
  }
  sync_cluster();
}

// Two blocks answer each other.
__global__ void flag_round_trip(uint32_t* flags, int steps) {
  if (thread_index() != 0) return;
  uint32_t *mine = flags + 32 * block_x(), *other = flags + 32 * (1 - block_x());
  for (int s = 1; s <= steps; ++s) {
    if (block_x() == 0) add_release(mine, 1);
    while (load_acquire(other) < uint32_t(s)) {
    }
    if (block_x() == 1) add_release(mine, 1);
  }
}

// Every block counts itself, for the sth time, and waits for all.
__device__ void all_arrive(uint32_t* counter, int s) {
  sync_threads();
  if (thread_index() == 0) {
    fence_device();
    add_release(counter, 1);
    while (load_acquire(counter) < uint32_t(s * blocks_x())) {
    }
  }
  sync_threads();
}

// A step of tier d, without data, product and cell.
__global__ void count_barrier(uint32_t* counter, int steps) {
  for (int s = 1; s <= steps; ++s) all_arrive(counter, s);
}

// Every block of a group writes `own` pieces and reads those of all of its group, which are there when they are no longer
// `kEmpty`: a step of tier b, without product and cell. Four buffers take turns; a block empties its part of one after it
// has read the next.
__global__ void polled_exchange(Piece* memory, int steps, int own, int group) {
  constexpr int kMost = 16;
  const int all = own * blocks_x(), pieces = own * group;
  const int mine = block_x() * own + thread_index(), first = block_x() / group * pieces;
  uint32_t sum = 0;
  for (int s = 1; s <= steps; ++s) {
    Piece* buffer = memory + s % 4 * all;
    if (thread_index() < own) {
      store_relaxed(buffer + mine, Piece{{sum, 2, 3, 4}});
      fence_device();
    }
    Piece got[kMost];
    bool there;
    do {
      there = true;
#pragma unroll
      for (int i = 0; i < kMost; ++i)
        if (thread_index() + i * kThreads < pieces)
          got[i] = load_relaxed(buffer + first + thread_index() + i * kThreads);
#pragma unroll
      for (int i = 0; i < kMost; ++i)
        if (thread_index() + i * kThreads < pieces) there = there && got[i].w[0] != kEmpty;
    } while (!there);
#pragma unroll
    for (int i = 0; i < kMost; ++i)
      if (thread_index() + i * kThreads < pieces) sum = (sum + got[i].w[0]) & 0xffff;
    sync_threads();
    if (thread_index() < own) store_relaxed(memory + (s + 3) % 4 * all + mine, Piece{{kEmpty, kEmpty, kEmpty, kEmpty}});
  }
}

// The same by a counter.
__global__ void counted_exchange(uint32_t* counter, Piece* memory, int steps, int own) {
  constexpr int kMost = 16;
  const int all = own * blocks_x();
  uint32_t sum = 0;
  for (int s = 1; s <= steps; ++s) {
    Piece* buffer = memory + s % 2 * all;
    if (thread_index() < own) store_piece(buffer + block_x() * own + thread_index(), Piece{{sum, 2, 3, 4}});
    all_arrive(counter, s);
    Piece got[kMost];
#pragma unroll
    for (int i = 0; i < kMost; ++i)
      if (thread_index() + i * kThreads < all) got[i] = load_piece(buffer + thread_index() + i * kThreads);
#pragma unroll
    for (int i = 0; i < kMost; ++i)
      if (thread_index() + i * kThreads < all) sum = (sum + got[i].w[0]) & 0xffff;
  }
}

// CHAINS independent sums a warp.
template <int CHAINS>
__global__ void matrix(int steps, float* out) {
  float c[CHAINS][4] = {};
  const uint32_t a[4] = {uint32_t(thread_index()), 1, 2, 3};
  for (int s = 0; s < steps; ++s)
#pragma unroll
    for (int i = 0; i < CHAINS; ++i) mma_bf16(c[i], a, uint32_t(s), uint32_t(i));
  float sum = 0;
#pragma unroll
  for (int i = 0; i < CHAINS; ++i) sum += c[i][0] + c[i][1] + c[i][2] + c[i][3];
  if (out) out[block_x() * kThreads + thread_index()] = sum;
}

__global__ void nothing() {}

struct Row {
  std::string name, unit;
  double value;
};
std::vector<Row> rows;

cudaStream_t stream;

// Median of 7 runs in nanoseconds, after one that warms up.
template <class Run>
double nanoseconds_of(Run&& run) {
  cudaEvent_t start, end;
  check(cudaEventCreate(&start), "event");
  check(cudaEventCreate(&end), "event");
  std::vector<float> times;
  for (int i = 0; i < 8; ++i) {
    check(cudaEventRecord(start, stream), "event");
    run();
    check(cudaEventRecord(end, stream), "event");
    check(cudaEventSynchronize(end), "run");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, start, end), "event");
    if (i) times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2] * 1e6;
}

void report(const std::string& name, const char* unit, double value) {
  std::printf("%-58s %10.2f %s\n", name.c_str(), value, unit);
  rows.push_back({name, unit, value});
}

template <class... P, class... A>
void time_steps(const std::string& name, void (*kernel)(P...), const Launch& l, int steps, A... args) {
  report(name, "ns a step", nanoseconds_of([&] { launch(kernel, l, static_cast<P>(args)...); }) / steps);
}

void measure() {
  const DeviceFacts facts = device_facts();
  const int steps = 4000;
  Launch one;
  one.threads = kThreads;
  one.stream = stream;
  time_steps("barrier of a block, 256 threads", block_barrier, one, steps, steps);

  for (unsigned size : {2u, 4u, 8u, 16u}) {
    Launch l = one;
    l.grid_x = l.cluster = size;
    const std::string text = " of " + std::to_string(size) + " blocks";
    if (facts.capability < 90 || at_once(cluster_barrier, l) == 0) {
      std::printf("cluster%s: the device has none\n", text.c_str());
      continue;
    }
    time_steps("barrier of a cluster" + text, cluster_barrier, l, steps, steps);
    for (int own : {64, 256}) {  // an LSTM of 512 units, 16 rows of bf16, 16 blocks: forward, backward
      l.shared = unsigned(2 * own * int(size) * 16 + 16);
      time_steps("exchange in a cluster" + text + ", " + std::to_string(own) + " x 16 bytes each to each",
                 cluster_exchange, l, steps, steps, own);
    }
  }

  uint32_t* flags = nullptr;
  check(cudaMalloc(&flags, 4096 * sizeof *flags), "memory");
  Launch two = one;
  two.grid_x = 2;
  two.cooperative = true;
  const auto cleared = [&](auto kernel, const Launch& l) {
    return nanoseconds_of([&] {
      check(cudaMemsetAsync(flags, 0, 4096 * sizeof *flags, stream), "memory");
      launch(kernel, l, flags, steps);
    });
  };
  report("flag through L2, there and back", "ns", cleared(flag_round_trip, two) / steps);
  for (int blocks : {16, 64, facts.processors}) {
    Launch l = two;
    l.grid_x = unsigned(blocks);
    report("barrier by a counter, " + std::to_string(blocks) + " blocks", "ns a step",
           cleared(count_barrier, l) / steps);
  }
  Piece* pieces = nullptr;
  const size_t room = 4 * 128 * 256 * sizeof *pieces;
  check(cudaMalloc(&pieces, room), "memory");
  const auto exchanged = [&](auto kernel, const Launch& l, auto... args) {
    return nanoseconds_of([&] {
      check(cudaMemsetAsync(flags, 0, 4096 * sizeof *flags, stream), "memory");
      check(cudaMemsetAsync(pieces, 0xff, room, stream), "memory");
      launch(kernel, l, args...);
    });
  };
  // an LSTM of 1024 units, 8 and 16 rows of bf16: h among all; gate gradients among 16, sums among 8
  for (const auto [blocks, own, group] :
       {std::array{128, 8, 128}, {128, 16, 128}, {128, 64, 16}, {128, 32, 8}, {64, 64, 64}, {64, 32, 64}}) {
    Launch l = two;
    l.grid_x = unsigned(blocks);
    const std::string text = std::to_string(blocks) + " blocks, each to " + std::to_string(group) + ", " +
                             std::to_string(own) + " x 16 bytes";
    report("exchange through L2, data tell, " + text, "ns a step",
           exchanged(polled_exchange, l, pieces, steps, own, group) / steps);
    if (group == blocks)
      report("exchange through L2, a counter tells, " + text, "ns a step",
             exchanged(counted_exchange, l, flags, pieces, steps, own) / steps);
  }
  check(cudaFree(pieces), "memory");
  check(cudaFree(flags), "memory");

  const double chain = nanoseconds_of([&] { launch(matrix<1>, one, steps, static_cast<float*>(nullptr)); }) / steps;
  report("m16n8k16 after one that it needs", "ns", chain);
  const double eight = nanoseconds_of([&] { launch(matrix<8>, one, steps, static_cast<float*>(nullptr)); }) / steps;
  report("m16n8k16, 8 warps with 8 sums each, one processor", "TFLOP/s", 64 * 2.0 * 16 * 8 * 16 / eight * 1e-3);

  const int launches = 200;
  const auto many = [&] {
    for (int i = 0; i < launches; ++i) launch(nothing, one);
  };
  report("launch after launch in a stream", "ns", nanoseconds_of(many) / launches);
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  many();
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiate(&exec, graph, 0), "graph");
  report("launch after launch in a graph", "ns",
         nanoseconds_of([&] { check(cudaGraphLaunch(exec, stream), "graph"); }) / launches);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    check(cudaStreamCreate(&stream), "stream");
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, 0), "device");
    std::printf("%s, sm_%d, %d processors\n", properties.name, device_facts().capability, device_facts().processors);
    measure();
    if (argc > 1) {
      std::FILE* file = std::fopen(argv[1], "w");
      if (!file) throw std::runtime_error(std::string("cannot write ") + argv[1]);
      std::fprintf(file, "{\"device\": \"%s\", \"results\": [", properties.name);
      for (size_t i = 0; i < rows.size(); ++i)
        std::fprintf(file, "%s\n  {\"name\": \"%s\", \"value\": %.4f, \"unit\": \"%s\"}", i ? "," : "",
                     rows[i].name.c_str(), rows[i].value, rows[i].unit.c_str());
      std::fprintf(file, "\n]}\n");
      std::fclose(file);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
