// Tiers a and b: one launch for all steps. A block keeps the weights of its units in registers; after each step the blocks
// hand one another what the next product needs.
//
//   ClusterExchange  (tier a, sm_90)  blocks of one cluster write into each other's shared memory; a barrier in the
//                                     receiver's shared memory counts the bytes
//   GridExchange     (tier b, sm_80)  through the second-level cache; each block raises a flag when its part is written
//
// Two buffers take turns. A block writes into one only after it has every other block's part of the step before, and a
// block hands out that part only after it has read the buffer that is now written: nobody overwrites what is still read.
// Batch groups beyond NT are teams of their own (grid y) that do not know of each other.
//
// A block that waits too long for another gives the call up. again_kernel, which follows in the stream, then does all of
// it again in one block, slowly; where nobody gave up it ends at once.
#pragma once
#include "product.cuh"

namespace fastrnn {
namespace cuda {

template <class Op>
struct Resident {
  StepTable steps;
  int count;  // steps to run: T, and one more in backward
  bool backward, reverse;
  const Piece* w;       // [tile][k block][half][lane]
  Operand<Op> slot[2];  // [batch group][k block][lane]; both start as begin_kernel leaves them
  uint32_t* flags;      // GridExchange: (teams, blocks), zero at the start
  uint32_t* failed;     // zero at the start: whether a block gave up
  uint32_t* status;     // the same for the host, or null
  int64_t timeout_ns;

  FASTRNN_DEVICE Step step(StepCursor& sizes, int s) const {
    return backward ? backward_step(sizes, s, steps.T, reverse) : forward_step(sizes, s, steps.T, reverse);
  }
};

// Waits until ready() for at most p.timeout_ns; negative: not at all.
template <class Op, class Ready>
FASTRNN_DEVICE bool wait_for(const Resident<Op>& p, Ready&& ready) {
  if (ready()) return true;
  const uint64_t start = nanoseconds();
  for (int polls = 1;; ++polls) {
    if (p.timeout_ns >= 0 && ready()) return true;
    pause();
    if ((polls % 64 == 0 || p.timeout_ns < 0) && int64_t(nanoseconds() - start) > p.timeout_ns) return false;
  }
}

template <class Op, int NT>
struct ClusterExchange {
  static constexpr bool kCluster = true;
  Piece* first;   // two times [batch group][k block][lane], this block's copies
  uint64_t* bar;  // two
  int pieces;     // that reach a block in a step
  int kblocks, first_group;

  static FASTRNN_BOTH unsigned shared_bytes(int kblocks) { return 16 + 2u * unsigned(NT * kblocks) * 512; }

  FASTRNN_DEVICE void begin(const Resident<Op>& p, unsigned char* shared, int group, int units_per_step) {
    kblocks = p.slot[0].kblocks, first_group = group, pieces = units_per_step;
    first = reinterpret_cast<Piece*>(shared);
    bar = reinterpret_cast<uint64_t*>(first + 2 * NT * kblocks * 32);
    const Piece* initial = p.slot[0].group(first_group);
    for (int i = thread_index(); i < NT * kblocks * 32; i += kThreads)
      buffer(0)[i] = buffer(1)[i] = load_piece(initial + i);
    if (thread_index() == 0)
      for (int s = 0; s < 2; ++s) {
        barrier_init(bar + s, 1);
        barrier_expect(bar + s, unsigned(pieces) * 16);
      }
    sync_cluster();
  }
  FASTRNN_DEVICE Piece* buffer(int s) const { return first + (s & 1) * (NT * kblocks * 32); }
  // Step s reads slot s % 2, which steps 1, 3, 5, ... or 2, 4, 6, ... have filled.
  FASTRNN_DEVICE bool wait(const Resident<Op>& p, int s) {
    const bool there = wait_for(p, [&] { return barrier_done(bar + s % 2, unsigned((s - 1) / 2) & 1); });
    sync_warp();  // lanes may have left the wait one by one, and the product wants them together
    // armed again before this block hands out what others need before they can write here
    if (there && thread_index() == 0) barrier_expect(bar + s % 2, unsigned(pieces) * 16);
    return there;
  }
  FASTRNN_DEVICE Piece read(const Resident<Op>&, int s, int n, int kb, int lane) const {
    return buffer(s)[(n * kblocks + kb) * 32 + lane];
  }
  // `at` gives the i-th of `count` own pieces and its place.
  template <class At>
  FASTRNN_DEVICE void send(const Resident<Op>&, int s, int count, At&& at) const {
    for (int i = thread_index(); i < count * blocks_x(); i += kThreads) {
      int place;
      const Piece v = at(i % count, place);
      send_piece(buffer(s + 1) + place, v, bar + (s + 1) % 2, unsigned(i / count));
    }
  }
  FASTRNN_DEVICE void end() const { sync_cluster(); }
};

template <class Op, int NT>
struct GridExchange {
  static constexpr bool kCluster = false;
  int first_group;

  static FASTRNN_BOTH unsigned shared_bytes(int) { return 0; }
  FASTRNN_DEVICE void begin(const Resident<Op>&, unsigned char*, int group, int) { first_group = group; }
  FASTRNN_DEVICE uint32_t* flag(const Resident<Op>& p, int block) const {
    return p.flags + block_y() * blocks_x() + block;
  }
  FASTRNN_DEVICE bool wait(const Resident<Op>& p, int s) {
    bool there = true;
    for (int i = thread_index(); i < blocks_x() && there; i += kThreads)
      there = wait_for(p, [&] { return load_acquire(flag(p, i)) >= uint32_t(s); });
    // each thread has seen some flags; together, and after this barrier, the block has seen them all
    return !sync_threads_or(!there);
  }
  FASTRNN_DEVICE Piece read(const Resident<Op>& p, int s, int n, int kb, int lane) const {
    return load_piece(p.slot[s % 2].group(first_group + n) + kb * 32 + lane);
  }
  template <class At>
  FASTRNN_DEVICE void send(const Resident<Op>& p, int s, int count, At&& at) const {
    Piece* to = const_cast<Piece*>(p.slot[(s + 1) % 2].group(first_group));
    for (int i = thread_index(); i < count; i += kThreads) {
      int place;
      const Piece v = at(i, place);
      store_piece(to + place, v);
    }
    sync_threads();
    if (thread_index() == 0) {
      fence_device();  // what the other threads wrote before the barrier, too
      store_release(flag(p, block_x()), uint32_t(s + 1));
    }
  }
  FASTRNN_DEVICE void end() const {}
};

// How much of W a block takes: UT tiles, and KBW k blocks in the registers of each warp.
template <class Epilogue, bool CLUSTER>
struct Share {
  static constexpr int G = Epilogue::kOutputs, U = 8 * kUnitHalves<Epilogue>, HALVES = G * kUnitHalves<Epilogue>;
  static constexpr bool kDeep = Epilogue::kBackward;  // its k runs over all gates
  static constexpr int UT = CLUSTER ? 32 / U : 1, KS = kWarps / UT;
  static constexpr int KBW = kDeep ? 16 : HALVES == 4 && CLUSTER ? 8 : 4;
};

template <class Op, class Epilogue, int NT, class Exchange>
constexpr unsigned resident_shared(int kblocks) {
  using Sh = Share<Epilogue, Exchange::kCluster>;
  return Tile<Op, Epilogue, NT, Sh::UT>::kShared +
         unsigned(Epilogue::kResults * Sh::UT * Sh::U * NT * 8 * sizeof(typename Op::Element)) +
         Exchange::shared_bytes(kblocks);
}

template <class Op, class Epilogue, int NT, class Exchange>
FASTRNN_KERNEL void FASTRNN_BOUNDS(kThreads) resident_kernel(Epilogue epi, Resident<Op> p) {
  using Sh = Share<Epilogue, Exchange::kCluster>;
  using Tl = Tile<Op, Epilogue, NT, Sh::UT>;
  using A = typename Op::Acc;
  using E = typename Op::Element;
  using L = Layout<Op>;
  constexpr int N = L::kPerPiece, UT = Sh::UT, KS = Sh::KS, KBW = Sh::KBW, HALVES = Sh::HALVES, ROWS = NT * 8;
  constexpr int kUnits = UT * Sh::U, kPieces = kUnits / N;  // of a block, and pieces a result and row
  const int warp = thread_index() / 32, lane = thread_index() % 32;
  const int kblocks = p.slot[0].kblocks, first_group = block_y() * NT, first_unit = block_x() * kUnits;

  // The exchange's buffers come first: they have to be at the same place in every block.
  unsigned char* shared = shared_memory();
  A* sums_of_warps = reinterpret_cast<A*>(shared + Exchange::shared_bytes(kblocks));
  // [result][piece][row]: the latest of every row, or what it starts from; sent whole after every step
  E* stage = reinterpret_cast<E*>(reinterpret_cast<unsigned char*>(sums_of_warps) + Tl::kShared);

  // The i-th piece of the stage, and its place in an operand.
  const auto piece = [&](int i, int& place) {
    const int row = i % ROWS, unit = first_unit + i / ROWS % kPieces * N, result = i / (ROWS * kPieces);
    const int k = result * epi.units() + unit;
    place = (row / 8 * kblocks + k / L::kBlock) * 32 + row % 8 * 4 + k / N % 4;
    return unit < epi.units();
  };
  // Units are a multiple of N, so the pieces inside are whole, and the first of each result.
  const int inside = epi.units() - first_unit < kUnits ? (epi.units() - first_unit) / N : kPieces;
  const int own = inside * ROWS * Epilogue::kResults;
  const auto own_piece = [&](int i, int& place) {
    const int row = i % ROWS, q = i / ROWS % inside, result = i / (ROWS * inside);
    const int index = (result * kPieces + q) * ROWS + row;
    piece(index, place);
    return reinterpret_cast<const Piece*>(stage)[index];
  };
  for (int i = thread_index(); i < kPieces * ROWS * Epilogue::kResults; i += kThreads) {
    int place;
    if (piece(i, place)) reinterpret_cast<Piece*>(stage)[i] = load_piece(p.slot[0].group(first_group) + place);
  }

  // This warp's part of W, for all steps.
  Piece w[KBW][HALVES];
  const int tile = block_x() * UT + warp / KS, part = warp % KS;
#pragma unroll
  for (int i = 0; i < KBW; ++i) {
    const int kb = part + i * KS;
    const bool there = kb < kblocks && tile * Sh::U < epi.units();
#pragma unroll
    for (int h = 0; h < HALVES; ++h)
      w[i][h] = there ? p.w[((int64_t(tile) * kblocks + kb) * HALVES + h) * 32 + lane] : Piece{{0, 0, 0, 0}};
  }

  Exchange exchange;
  exchange.begin(p, shared, first_group, epi.units() / N * ROWS * Epilogue::kResults);
  sync_threads();

  StepCursor sizes{p.steps};
  for (int s = 0; s < p.count; ++s) {
    const Step step = p.step(sizes, s);
    Tl t;
    t.load(epi, step, block_x(), first_group);
    const bool there = s == 0 || exchange.wait(p, s);
    A sums[NT][HALVES][2] = {};
    // also where a wait was too long: a matrix instruction wants every lane of its warp, and lanes may have waited in vain
    // one by one
#pragma unroll
    for (int i = 0; i < KBW; ++i) {
      const int kb = part + i * KS;
      if (kb < kblocks)
#pragma unroll
        for (int n = 0; n < NT; ++n) multiply<Op, HALVES>(sums[n], w[i], exchange.read(p, s, n, kb, lane));
    }
    Tl::put(sums_of_warps, sums);
    if (sync_threads_or(!there)) {
      if (thread_index() == 0) {
        *p.failed = 1;
        if (p.status) store_system(p.status, 1);
      }
      break;
    }
    t.finish(epi, step, block_x(), first_group, sums_of_warps, [&](int row, int unit, int result, A v) {
      const int u = unit - first_unit;
      stage[((result * kPieces + u / N) * ROWS + row - first_group * 8) * N + u % N] = Op::element(v);
    });
    sync_threads();
    if (s + 1 < p.count) exchange.send(p, s, own, own_piece);
  }
  exchange.end();
}

template <class Op, class Epilogue, int NT>
FASTRNN_KERNEL void FASTRNN_BOUNDS(kThreads) again_kernel(Epilogue epi, Resident<Op> p, Begin<Op> start) {
  if (*p.failed == 0) return;
  start.run(thread_index(), kThreads);
  sync_threads();
  StepCursor sizes{p.steps};
  for (int s = 0; s < p.count; ++s) {
    const Step step = p.step(sizes, s);
    for (int group = 0; group * 8 < epi.rows(step); group += NT)
      for (int tile = 0; tile * Tile<Op, Epilogue, NT>::U < epi.units(); ++tile) {
        run_tile<Op, Epilogue, NT>(epi, step, p.w, p.slot[s % 2], p.slot[1 - s % 2], tile, group);
        sync_threads();  // the memory of its sums is used again, and its results are the next step's operand
      }
  }
}

}  // namespace cuda
}  // namespace fastrnn
