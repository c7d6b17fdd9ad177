// Backward in tier a. A block multiplies the gate gradients of its own 32 units by the columns of W that they meet, which
// gives it a part of dh of every unit; it sends each block that block's units, and adds up what it gets. Against handing
// round gate gradients of 16 bits that is 4 bytes a unit and row for 2 G (more for Elman, less for the others), the cell
// needs no sums of several warps before it, and a step has one barrier of the block.
//
// The weights are packed as for the other kernels, dh = W^T dg in tiles of 16 units, but k runs block by block.
#pragma once
#include "exchange.cuh"

namespace fastrnn {
namespace cuda {

// G: gates.
template <class Op, int G>
struct Scatter {
  static constexpr int kUnits = 32, kTiles = kUnits / 16;     // of a block
  static constexpr int KB = G * kUnits / Layout<Op>::kBlock;  // k blocks of its gate gradients
  static constexpr int MT = KB <= 4 ? 4 : 16 / KB;            // tiles of 16 units of dh a warp takes
  static constexpr int kMost = kWarps * MT * 16;              // units
  static FASTRNN_BOTH int blocks(int64_t units) { return int((units + kUnits - 1) / kUnits); }
  static constexpr unsigned shared_bytes(int blocks, int NT) {
    return Mailbox::shared_bytes(blocks * NT * kTiles * 32) + 2u * unsigned(NT * KB) * 512;
  }
};

template <class Op, class Epilogue, int NT>
FASTRNN_KERNEL void FASTRNN_BOUNDS(kThreads) scatter_kernel(Epilogue epi, Resident<Op> p) {
  constexpr int G = Epilogue::kResults;
  using Sc = Scatter<Op, G>;
  using A = typename Op::Acc;
  using L = Layout<Op>;
  static_assert(kWarps == Sc::kTiles * 4 && Epilogue::kOutputs == 1, "a warp has two rows of a tile and batch group");
  const int warp = thread_index() / 32, lane = thread_index() % 32;
  const int first_group = block_y() * NT, tiles = (epi.units() + 15) / 16, blocks = blocks_x(), me = block_x();

  // Sums, [block they come from][batch group][tile][place] of pieces: the four sums of a lane after the matrix
  // instructions, of units lane / 4 and lane / 4 + 8 in rows lane % 4 * 2 and the next. Its place, lane % 4 * 8 + lane / 4,
  // lets the 8 lanes that have 8 units of the same rows read side by side.
  unsigned char* shared = shared_memory();
  Mailbox box;
  const int mine = tiles - me * Sc::kTiles < Sc::kTiles ? tiles - me * Sc::kTiles : Sc::kTiles;
  box.begin(shared, blocks * NT * Sc::kTiles * 32, blocks * NT * mine * 32);
  // Gate gradients of this block, [batch group][k block][lane], two that take turns: when one is written again, every warp
  // has passed the barrier of the step between, and so has read it. Rows and units that there are not stay zero.
  shared += Mailbox::shared_bytes(box.size);
  Piece* const dgs = reinterpret_cast<Piece*>(shared);
  for (int i = thread_index(); i < 2 * NT * Sc::KB * 32; i += kThreads) dgs[i] = Piece{{0, 0, 0, 0}};

  Piece w[Sc::MT][Sc::KB][2];
#pragma unroll
  for (int i = 0; i < Sc::MT; ++i) {
    const int tile = warp + i * kWarps;
#pragma unroll
    for (int kb = 0; kb < Sc::KB; ++kb)
#pragma unroll
      for (int h = 0; h < 2; ++h)
        w[i][kb][h] = tile < tiles ? p.w[((int64_t(tile) * p.slot[0].kblocks + me * Sc::KB + kb) * 2 + h) * 32 + lane]
                                   : Piece{{0, 0, 0, 0}};
  }

  // In the cell this thread has, of every batch group, one row of one unit.
  const int tile = warp / 4, from = lane / 8, column = from % 2;
  const int local = tile * 16 + from / 2 * 8 + lane % 8, unit = me * Sc::kUnits + local;
  const int row_in_group = warp % 4 * 2 + column;
  typename Epilogue::Fixed fixed;
  typename Epilogue::State state[NT];
  typename Epilogue::Loaded loaded[NT];
  typename Epilogue::Result result[NT];
  Place place[NT];
  Remote owner[Sc::MT];  // of each tile of this warp
#pragma unroll
  for (int i = 0; i < Sc::MT; ++i) owner[i] = box.of(warp + i * kWarps < tiles ? (warp + i * kWarps) / Sc::kTiles : me);
  const bool inside = unit < epi.units();
  if (inside) epi.fix(fixed, unit);
#pragma unroll
  for (int n = 0; n < NT; ++n) {
    place[n] = place_at((first_group + n) * 8 + row_in_group, unit, epi.units());
    if (inside && place[n].row < p.rows) epi.start(state[n], place[n]);
  }
  const auto takes_part = [&](const Step& step, int n) { return inside && place[n].row < epi.rows(step); };
  const auto load = [&](const Step& step) {
#pragma unroll
    for (int n = 0; n < NT; ++n)
      if (takes_part(step, n)) epi.load(loaded[n], step, place[n]);
  };
  Walk<RunTable> walk(p.runs, p.down);
  Step step = walk.step();
  load(step);
  sync_cluster();

  bool complete = true;
  for (int s = 0; s < p.count; ++s) {
    const bool more = s + 1 < p.count;
    walk.forward();
    const Step next = walk.step();
    const bool there = s == 0 || box.wait(p, s);
    Piece* const dg = dgs + s % 2 * (NT * Sc::KB * 32);
#pragma unroll
    for (int n = 0; n < NT; ++n) {
      // The lanes of `from` add up every fourth block's sums; then each keeps one of the four.
      float sum[4] = {0, 0, 0, 0};
      if (s > 0) {
#pragma unroll
        for (int i = 0; i < kMostBlocks / 4; ++i) {
          const int b = from + i * 4;
          if (b >= blocks) break;
          const Piece v = box.buffer(s)[((b * NT + n) * Sc::kTiles + tile) * 32 + warp % 4 * 8 + lane % 8];
#pragma unroll
          for (int j = 0; j < 4; ++j) sum[j] += as_float(v.w[j]);
        }
      }
      float half[2];
#pragma unroll
      for (int i = 0; i < 2; ++i)
        half[i] = (from / 2 ? sum[i + 2] : sum[i]) + as_float(shuffle_xor(as_bits(from / 2 ? sum[i] : sum[i + 2]), 16));
      const A dh[1] = {(column ? half[1] : half[0]) + as_float(shuffle_xor(as_bits(column ? half[0] : half[1]), 8))};
      A out[G];
      if (there && takes_part(step, n)) {
        epi.finish(fixed, state[n], loaded[n], result[n], step, place[n], dh, out);
#pragma unroll
        for (int g = 0; g < G; ++g)
          reinterpret_cast<typename Op::Element*>(dg + n * Sc::KB * 32)[L::at(row_in_group, g * Sc::kUnits + local)] =
              Op::element(out[g]);
      }
    }
    complete = !sync_threads_or(!there);
    if (!complete) {
      give_up(p);
      break;
    }
    const auto write = [&] {
#pragma unroll
      for (int n = 0; n < NT; ++n)
        if (takes_part(step, n)) epi.write(result[n], step, place[n]);
    };
    // Others wait for what is sent, and nobody for these, but several groups' do not fit the registers beside the sums.
    if (NT > 1) write();
    if (more) load(next);  // before what is sent, behind which it would queue
    // Two tiles at a time keep the matrix units busy, and are on their way while the next two are multiplied.
    constexpr int kPair = Sc::MT % 2 ? 1 : 2;
    // Read before anything is sent, behind which the reads would queue, where there are registers for all.
    constexpr bool kAtOnce = NT == 1;
    Piece all[kAtOnce ? Sc::KB : 1];
    if constexpr (kAtOnce)
#pragma unroll
      for (int kb = 0; kb < Sc::KB; ++kb) all[kb] = dg[kb * 32 + lane];
#pragma unroll
    for (int first = 0; first < Sc::MT; first += kPair) {
      A sums[kPair][NT][2][2] = {};
      const auto to = [&](int i) { return warp + (first + i) * kWarps; };
      if (!more || to(0) >= tiles) break;
#pragma unroll
      for (int kb = 0; kb < Sc::KB; ++kb)
#pragma unroll
        for (int n = 0; n < NT; ++n) {
          const Piece h = kAtOnce ? all[kAtOnce ? kb : 0] : dg[(n * Sc::KB + kb) * 32 + lane];
#pragma unroll
          for (int i = 0; i < kPair; ++i) multiply<Op, 2>(sums[i][n], w[first + i][kb], h);
        }
#pragma unroll
      for (int i = 0; i < kPair; ++i)
        if (to(i) < tiles)
#pragma unroll
          for (int n = 0; n < NT; ++n) {
            const auto& c = sums[i][n];
            box.send(owner[first + i], s + 1,
                     ((me * NT + n) * Sc::kTiles + to(i) % Sc::kTiles) * 32 + lane % 4 * 8 + lane / 4,
                     Piece{{as_bits(c[0][0]), as_bits(c[0][1]), as_bits(c[1][0]), as_bits(c[1][1])}});
          }
    }
    if (NT == 1) write();
    if (!more) break;
    step = next;
  }
  box.end(complete);
}

}  // namespace cuda
}  // namespace fastrnn
