// Tiers a, b and d: one launch for all steps. In a and b a block keeps the weights of its units in registers; after each
// step the blocks hand one another what the next product needs.
//
//   gather_kernel    a block has the rows of W of its units, and needs all of h: blocks hand round what they computed.
//     ClusterExchange  (tier a, sm_90)  blocks of one cluster write into each other's shared memory; a barrier in the
//                                       receiver's shared memory counts the bytes
//     GridExchange     (tier b, sm_80)  through the second-level cache; what is not written yet looks empty
//   scatter_kernel   (tier a, backward; scatter.cuh)  a block has the columns of W of its units, and hands round sums.
//   stepped_kernel   (tier d)  blocks keep nothing: tiles are dealt anew in each step, and W comes from the caches. Any size.
//
// Batch groups beyond NT are teams of their own (grid y) that do not know of each other.
//
// A block that waits too long for another gives the call up. again_kernel, which follows in the stream, then does all of
// it again in one block, slowly; where nobody gave up it ends at once.
#pragma once
#include "exchange.cuh"

namespace fastrnn {
namespace cuda {

// How much of W a block takes: UT tiles, and KBW k blocks in the registers of each warp. In tier b a forward LSTM of 16 rows
// takes two tiles: half as many blocks then read all of h, which was 0.5 us of 3.5 at 1024 units. With 8 rows there is less
// to read, and with 32 there are no registers.
template <class Epilogue, bool CLUSTER, int NT>
struct Share {
  static constexpr int G = Epilogue::kOutputs, U = 8 * kUnitHalves<Epilogue>, HALVES = G * kUnitHalves<Epilogue>;
  static constexpr bool kDeep = Epilogue::kBackward;  // its k runs over all gates
  static constexpr int UT = CLUSTER ? 32 / U : !kDeep && HALVES == 4 && NT == 2 ? 2 : 1, KS = kWarps / UT;
  static constexpr int KBW = kDeep ? 16 : HALVES == 4 && UT > 1 ? 8 : 4;
};

template <class Op, class Epilogue, int NT, class Exchange>
constexpr unsigned gather_shared(int kblocks) {
  return Exchange::shared_bytes(kblocks) + kWarps * kGather<Op> +
         Tile<Op, Epilogue, NT, Share<Epilogue, Exchange::kCluster, NT>::UT>::kShared;
}

template <class Op, class Epilogue, int NT, class Exchange>
FASTRNN_KERNEL void FASTRNN_BOUNDS(kThreads) gather_kernel(Epilogue epi, Resident<Op> p) {
  using Sh = Share<Epilogue, Exchange::kCluster, NT>;
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
    // Some of h is on its way while that before it is multiplied.
    constexpr int kRoom =
        NT > 2 ? 1 : (Exchange::kCluster || KBW <= 8 ? 8 : 2) / NT;  // for as many pieces in registers
    constexpr int kAhead = kRoom > KBW ? KBW : kRoom < 1 ? 1 : kRoom;
    static_assert(KBW % kAhead == 0, "whole parts");
    bool there = exchange.template start<KBW, kAhead>(p, s, part);
    A sums[NT][HALVES][2] = {};
#pragma unroll
    for (int first = 0; first < KBW; first += kAhead) {
      if (part + first * KS >= kblocks) break;
      exchange.await((KBW - first) / kAhead - 1);
      Piece h[kAhead][NT];
#pragma unroll
      for (int i = 0; i < kAhead; ++i)
#pragma unroll
        for (int n = 0; n < NT; ++n) {
          const int kb = part + (first + i) * KS;
          h[i][n] = kb < kblocks ? exchange.read(p, s, first + i, n, kb, there) : Piece{{0, 0, 0, 0}};
        }
      // Also where a wait was too long: a matrix instruction wants every lane of its warp.
      if (!Exchange::kCluster) sync_warp();
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
      // within a cluster before what follows, behind which it would queue; else after the fence, which would wait for it
      if (Exchange::kCluster) t.load(epi, next);
#pragma unroll
      for (int m = 0; m < Tl::kMine; ++m)
        if (m * kThreads + warp * 32 < Tl::kItems)
#pragma unroll
          for (int r = 0; r < R; ++r) {
            const Piece v = gather_units<Op>(latest[m][r], gathered);
            if (to[m][r] >= 0) exchange.send(p, s + 1, to[m][r], v);
          }
      exchange.sent(p, s + 1);
      if (!Exchange::kCluster) t.load(epi, next);
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
