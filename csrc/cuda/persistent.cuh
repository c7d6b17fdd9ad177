// Tiers a, b and d: one launch for all steps. In a and b a block keeps the weights of its units in registers; after each
// step the blocks hand one another what the next product needs.
//
//   gather_kernel    a block has the rows of W of its units, and needs all of h: blocks hand round what they computed.
//     ClusterExchange  (tier a, sm_90)  blocks of one cluster write into each other's shared memory; a barrier in the
//                                       receiver's shared memory counts the bytes
//     GridExchange     (tier b, sm_80)  through the second-level cache; a counter tells how many parts are written
//   scatter_kernel   (tier a, backward; scatter.cuh)  a block has the columns of W of its units, and hands round sums.
//   stepped_kernel   (tier d)  blocks keep nothing: tiles are dealt anew in each step, and W comes from the caches. Any size.
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

constexpr int kMostBlocks = 16;  // of a cluster

template <class Op>
struct Resident {
  RunTable runs;
  bool down;            // in t
  int count;            // T, and one more in backward
  int rows;             // of the batch
  const Piece* w;       // [tile][k block][half][lane]
  Operand<Op> slot[2];  // [batch group][k block][lane]; both start as begin_kernel leaves them
  uint32_t* counters;   // (teams), GridBarrier's, zero at the start
  uint32_t* failed;     // zero at the start: whether a block gave up
  uint32_t* status;     // the same for the host, or null
  int64_t timeout_ns;
};

// Waits until ready() for at most p.timeout_ns; negative: gives up at once, as the tests want it. The clock is slow to
// read: a short wait never asks.
template <class Op, class Ready>
FASTRNN_DEVICE bool wait_for(const Resident<Op>& p, Ready&& ready) {
  if (p.timeout_ns < 0) return false;
  if (ready()) return true;
  uint64_t start = 0;
  for (int polls = 1;; ++polls) {
    pause();
    if (ready()) return true;
    if (polls % 64 != 0) continue;
    const uint64_t now = nanoseconds();
    if (start == 0) start = now;
    if (int64_t(now - start) > p.timeout_ns) return false;
  }
}

// Says that a block gave up: to the kernel that does it again, and to the host.
template <class Op>
FASTRNN_DEVICE void give_up(const Resident<Op>& p) {
  if (thread_index() != 0) return;
  *p.failed = 1;
  if (p.status) store_system(p.status, 1);
}

// Two buffers in the shared memory of every block of a cluster, filled in turn by all of its blocks: step s reads buffer
// s % 2, for steps 1, 2, ...
struct Mailbox {
  Piece* first;
  uint64_t* bar;   // two
  int size;        // of a buffer, in pieces
  unsigned bytes;  // that reach it in a step

  static FASTRNN_BOTH unsigned shared_bytes(int size) { return 16 + 2u * unsigned(size) * 16; }

  // Others may send after the next cluster barrier.
  FASTRNN_DEVICE void begin(unsigned char* memory, int size_, int incoming) {
    size = size_, bytes = unsigned(incoming) * 16;
    first = reinterpret_cast<Piece*>(memory);
    bar = reinterpret_cast<uint64_t*>(first + 2 * size);
    if (thread_index() == 0)
      for (int s = 0; s < 2; ++s) {
        barrier_init(bar + s, 1);
        barrier_expect(bar + s, bytes);
      }
  }
  FASTRNN_DEVICE Piece* buffer(int s) const { return first + (s & 1) * size; }
  template <class Op>
  FASTRNN_DEVICE bool wait(const Resident<Op>& p, int s) const {
    const bool there = wait_for(p, [&] { return barrier_done(bar + s % 2, unsigned((s - 1) / 2) & 1); });
    sync_warp();  // lanes may have left the wait one by one, and what follows wants them together
    // armed again before this block hands out what others need before they can write here
    if (there && thread_index() == 0) barrier_expect(bar + s % 2, bytes);
    return there;
  }
  // No block may leave while others can write to it. Where a wait was given up, what nobody waited for may still be on its
  // way after that.
  FASTRNN_DEVICE void end(bool complete) const {
    sync_cluster();
    if (complete) return;
    const uint64_t start = nanoseconds();
    while (nanoseconds() - start < 50000) pause();
  }
  FASTRNN_DEVICE Remote of(int rank) const { return remote_memory(first, unsigned(rank)); }
  // Into another block's box, for its step s.
  FASTRNN_DEVICE void send(Remote to, int s, int place, const Piece& v) const {
    send_piece(to, unsigned((s & 1) * size + place) * 16, v, unsigned(2 * size) * 16 + unsigned(s & 1) * 8);
  }
};

// An exchange brings h to everyone: begin, then for every step wait, read, and send with sent() after the last, and end.
template <class Op, int NT>
struct ClusterExchange {
  static constexpr bool kCluster = true;
  static constexpr int kCopies = Layout<Op>::kPerPiece;  // threads that have the same piece
  static constexpr int kRanks = kMostBlocks / kCopies;   // that each of them sends it to
  Mailbox box;                                           // buffers [batch group][k block][lane]
  int kblocks;
  Remote to[kRanks];

  static FASTRNN_BOTH unsigned shared_bytes(int kblocks) { return Mailbox::shared_bytes(NT * kblocks * 32); }

  FASTRNN_DEVICE void begin(const Resident<Op>& p, unsigned char* shared, int first_group, int pieces) {
    kblocks = p.slot[0].kblocks;
    box.begin(shared, NT * kblocks * 32, pieces);
    const Piece* initial = p.slot[0].group(first_group);
    for (int i = thread_index(); i < box.size; i += kThreads)
      box.buffer(0)[i] = box.buffer(1)[i] = load_piece(initial + i);
#pragma unroll
    for (int i = 0; i < kRanks; ++i) to[i] = box.of(rank(i) < blocks_x() ? rank(i) : 0);
    sync_cluster();
  }
  FASTRNN_DEVICE bool wait(const Resident<Op>& p, int s) const { return box.wait(p, s); }
  FASTRNN_DEVICE Piece read(const Resident<Op>&, int s, int n, int kb, int lane) const {
    return box.buffer(s)[(n * kblocks + kb) * 32 + lane];
  }
  static FASTRNN_DEVICE int rank(int i) { return thread_index() % 32 / 4 % kCopies + i * kCopies; }
  // For step s. The threads of a warp that have the same piece are those of one lane % 4 and, where a row has two pieces,
  // of one half of the warp.
  FASTRNN_DEVICE void send(const Resident<Op>&, int s, int place, const Piece& v) const {
#pragma unroll
    for (int i = 0; i < kRanks; ++i)
      if (rank(i) < blocks_x()) box.send(to[i], s, place, v);
  }
  FASTRNN_DEVICE void sent(const Resident<Op>&, int) const {}
  FASTRNN_DEVICE void end(bool complete) const { box.end(complete); }
};

// A barrier of all blocks of a team in a cooperative launch.
template <class Op>
struct GridBarrier {
  const Resident<Op>& p;
  // For step s. What the block's threads wrote before is written.
  FASTRNN_DEVICE void arrive() const {
    sync_threads();
    if (thread_index() != 0) return;
    fence_device();  // what the other threads wrote before the barrier, too
    add_release(p.counters + block_y(), 1);
  }
  // Until all blocks have arrived s times: the same answer for every thread of the block. One thread has seen it, and by
  // the barrier so has the block; what others wrote is then read past the first-level cache.
  FASTRNN_DEVICE bool wait(int s) const {
    const uint32_t all = uint32_t(s) * uint32_t(blocks_x());
    const bool there =
        thread_index() != 0 || wait_for(p, [&] { return int32_t(load_acquire(p.counters + block_y()) - all) >= 0; });
    return !sync_threads_or(!there);
  }
};

template <class Op, int NT>
struct GridExchange {
  static constexpr bool kCluster = false;
  int first_group;

  static FASTRNN_BOTH unsigned shared_bytes(int) { return 0; }
  FASTRNN_DEVICE void begin(const Resident<Op>&, unsigned char*, int group, int) { first_group = group; }
  FASTRNN_DEVICE bool wait(const Resident<Op>& p, int s) const { return GridBarrier<Op>{p}.wait(s); }
  FASTRNN_DEVICE Piece read(const Resident<Op>& p, int s, int n, int kb, int lane) const {
    return load_piece(p.slot[s % 2].group(first_group + n) + kb * 32 + lane);
  }
  FASTRNN_DEVICE void send(const Resident<Op>& p, int s, int place, const Piece& v) const {
    if (thread_index() % 32 / 4 % Layout<Op>::kPerPiece == 0)
      store_piece(const_cast<Piece*>(p.slot[s % 2].group(first_group)) + place, v);
  }
  FASTRNN_DEVICE void sent(const Resident<Op>& p, int) const { GridBarrier<Op>{p}.arrive(); }
  FASTRNN_DEVICE void end(bool) const {}
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
constexpr unsigned gather_shared(int kblocks) {
  return Exchange::shared_bytes(kblocks) + kWarps * kGather<Op> +
         Tile<Op, Epilogue, NT, Share<Epilogue, Exchange::kCluster>::UT>::kShared;
}

template <class Op, class Epilogue, int NT, class Exchange>
FASTRNN_KERNEL void FASTRNN_BOUNDS(kThreads) gather_kernel(Epilogue epi, Resident<Op> p) {
  using Sh = Share<Epilogue, Exchange::kCluster>;
  using Tl = Tile<Op, Epilogue, NT, Sh::UT>;
  using A = typename Op::Acc;
  using E = typename Op::Element;
  using L = Layout<Op>;
  constexpr int N = L::kPerPiece, KS = Sh::KS, KBW = Sh::KBW, HALVES = Sh::HALVES, R = Epilogue::kResults;
  const int warp = thread_index() / 32, lane = thread_index() % 32;
  const int kblocks = p.slot[0].kblocks, first_group = block_y() * NT;

  // The exchange's buffers come first: they have to be at the same place in every block.
  unsigned char* shared = shared_memory();
  shared += Exchange::shared_bytes(kblocks);
  unsigned char* gathered = shared + warp * kGather<Op>;
  // Written again only after every warp has read it: a step begins with all warps' parts of the one before.
  A* sums_of_warps = reinterpret_cast<A*>(shared + kWarps * kGather<Op>);

  // This warp's part of W, for all steps.
  Piece w[KBW][HALVES];
  const int tile = block_x() * Sh::UT + warp / KS, part = warp % KS;
#pragma unroll
  for (int i = 0; i < KBW; ++i) {
    const int kb = part + i * KS;
    const bool there = kb < kblocks && tile * Sh::U < epi.units();
#pragma unroll
    for (int h = 0; h < HALVES; ++h)
      w[i][h] = there ? p.w[((int64_t(tile) * kblocks + kb) * HALVES + h) * 32 + lane] : Piece{{0, 0, 0, 0}};
  }

  Tl t;
  t.begin(epi, p.rows, block_x(), first_group);
  // What the next product takes from each item: the latest, or what it starts from.
  E latest[Tl::kMine][R];
#pragma unroll
  for (int m = 0; m < Tl::kMine; ++m) {
    const Place& place = t.items[m].place;
#pragma unroll
    for (int r = 0; r < R; ++r)
      latest[m][r] = t.items[m].inside ? p.slot[0].get(place.row, p.slot[0].template column<R>(r, place.unit)) : E(0);
  }

  Exchange exchange;
  exchange.begin(p, shared_memory(), first_group, epi.units() / N * NT * 8 * R);

  // Where a lane's pieces go. A warp has 8 units of 4 rows; units are a multiple of N, so a piece is inside or outside whole.
  int to[Tl::kMine][R];  // negative: nowhere
#pragma unroll
  for (int m = 0; m < Tl::kMine; ++m) {
    const auto& it = t.items[m];
    const int unit = it.place.unit - lane / 4 + lane / (4 * N) * N;
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int64_t k = p.slot[0].template column<R>(r, unit);
      const bool whole = m * kThreads + warp * 32 < Tl::kItems && unit < epi.units();
      to[m][r] = opaque(whole ? it.group * kblocks * 32 + int(L::at(it.place.row % 8, k) / N) : -1);
    }
  }

  bool complete = true;
  Walk<RunTable> walk(p.runs, p.down);
  Step step = walk.step();
  t.load(epi, step);
  for (int s = 0; s < p.count; ++s) {
    walk.forward();
    const Step next = walk.step();
    const bool there = s == 0 || exchange.wait(p, s);
    A sums[NT][HALVES][2] = {};
    // Also where a wait was too long: a matrix instruction wants every lane of its warp, and lanes may have waited in vain
    // one by one. Some of h is on its way from memory while that before it is multiplied.
    constexpr int kRoom =
        NT > 2 ? 1 : (Exchange::kCluster || KBW <= 8 ? 8 : 2) / NT;  // for as many pieces in registers
    constexpr int kAhead = kRoom > KBW ? KBW : kRoom < 1 ? 1 : kRoom;
    static_assert(KBW % kAhead == 0, "whole parts");
#pragma unroll
    for (int first = 0; first < KBW; first += kAhead) {
      if (part + first * KS >= kblocks) break;
      Piece h[kAhead][NT];
#pragma unroll
      for (int i = 0; i < kAhead; ++i)
#pragma unroll
        for (int n = 0; n < NT; ++n) {
          const int kb = part + (first + i) * KS;
          h[i][n] = kb < kblocks ? exchange.read(p, s, n, kb, lane) : Piece{{0, 0, 0, 0}};
        }
#pragma unroll
      for (int i = 0; i < kAhead; ++i)
#pragma unroll
        for (int n = 0; n < NT; ++n) multiply<Op, HALVES>(sums[n], w[first + i], h[i][n]);
    }
    Tl::put(sums_of_warps, sums);
    complete = !sync_threads_or(!there);
    const bool more = s + 1 < p.count;
#pragma unroll
    for (int m = 0; m < Tl::kMine; ++m) {
      A out[R];
      if (t.finish(epi, step, m, sums_of_warps, out))
#pragma unroll
        for (int r = 0; r < R; ++r) latest[m][r] = Op::element(out[r]);
    }
    if (!complete) {
      give_up(p);
      break;
    }
    if (more) {
      t.load(epi, next);  // before what follows, behind which it would queue
#pragma unroll
      for (int m = 0; m < Tl::kMine; ++m)
        if (m * kThreads + warp * 32 < Tl::kItems)
#pragma unroll
          for (int r = 0; r < R; ++r) {
            const Piece v = gather_units<Op>(latest[m][r], gathered);
            if (to[m][r] >= 0) exchange.send(p, s + 1, to[m][r], v);
          }
      exchange.sent(p, s + 1);
    }
    t.write(epi, step);  // others wait for what was sent, and nobody for this
    if (!more) break;
    step = next;
  }
  exchange.end(complete);
}

template <class Op, class Epilogue, int NT>
FASTRNN_KERNEL void FASTRNN_BOUNDS(kThreads) stepped_kernel(Epilogue epi, Resident<Op> p) {
  const int tiles = (epi.units() + Tile<Op, Epilogue, NT>::U - 1) / Tile<Op, Epilogue, NT>::U;
  const GridBarrier<Op> barrier{p};
  Walk<RunTable> walk(p.runs, p.down);
  for (int s = 0; s < p.count; ++s, walk.forward()) {
    const Step step = walk.step();
    if (s > 0 && !barrier.wait(s)) {
      give_up(p);
      return;
    }
    // Tiles that follow one another are of different batch groups and read the same weights.
    const int groups = (epi.rows(step) + 8 * NT - 1) / (8 * NT);
    for (int i = block_x(); i < tiles * groups; i += blocks_x()) {
      run_tile<Op, Epilogue, NT>(epi, step, p.w, p.slot[s % 2], p.slot[1 - s % 2], i / groups, i % groups * NT);
      sync_threads();  // the memory of its sums is used again
    }
    if (s + 1 < p.count) barrier.arrive();
  }
}

template <class Op, class Epilogue, int NT>
FASTRNN_KERNEL void FASTRNN_BOUNDS(kThreads) again_kernel(Epilogue epi, Resident<Op> p, Begin<Op> start) {
  if (*p.failed == 0) return;
  start.run(thread_index(), kThreads);
  sync_threads();
  Walk<RunTable> walk(p.runs, p.down);
  for (int s = 0; s < p.count; ++s, walk.forward()) {
    const Step step = walk.step();
    for (int group = 0; group * 8 < epi.rows(step); group += NT)
      for (int tile = 0; tile * Tile<Op, Epilogue, NT>::U < epi.units(); ++tile) {
        run_tile<Op, Epilogue, NT>(epi, step, p.w, p.slot[s % 2], p.slot[1 - s % 2], tile, group);
        sync_threads();  // the memory of its sums is used again, and its results are the next step's operand
      }
  }
}

}  // namespace cuda
}  // namespace fastrnn
