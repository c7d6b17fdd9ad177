// The recurrent product of one step with its epilogue, and what lays operands out for it.
//
// A tile is 8 * UH units with all their gates, for NT batch groups of 8 rows. A block has UT tiles; the KS warps of a tile
// share its k blocks and add their parts up in shared memory, always in the same order.
#pragma once
#include "epilogue.cuh"

namespace fastrnn {
namespace cuda {

constexpr int kWarps = 8, kThreads = 32 * kWarps;

// Matrix instructions take halves by twos.
template <class Epilogue>
constexpr int kUnitHalves = Epilogue::kOutputs % 2 ? 2 : 1;

template <class Op, class Epilogue, int NT, int UT = 1>
struct Tile {
  using A = typename Op::Acc;
  using E = typename Op::Element;
  static constexpr int G = Epilogue::kOutputs, UH = kUnitHalves<Epilogue>, HALVES = G * UH, U = 8 * UH;
  static constexpr int KS = kWarps / UT;  // warps that share a tile
  // The (row, unit) pairs of a tile, one or more a thread.
  static constexpr int kItems = UT * NT * UH * 64, kMine = (kItems + kThreads - 1) / kThreads;
  static constexpr unsigned kShared = unsigned(kWarps * NT * HALVES * 64 * sizeof(A));

  // The lanes of a warp are 8 units of 4 rows, in every item.
  struct Item {
    int lane, column, half, group, tile;
    Place place;
    bool inside;  // the tile, and the layer's units
  };
  Item items[kMine];
  typename Epilogue::Fixed fixed[kMine];
  typename Epilogue::State state[kMine];
  typename Epilogue::Loaded loaded[kMine];
  typename Epilogue::Result result[kMine];

  static FASTRNN_DEVICE Item item(const Epilogue& epi, int m, int tile, int first_group) {
    const int i = m * kThreads + thread_index();
    Item it;
    it.lane = i % 32, it.column = i / 32 % 2, it.half = i / 64 % UH, it.group = i / (64 * UH) % NT,
    it.tile = i / (64 * UH * NT);
    const int row = (first_group + it.group) * 8 + it.lane % 4 * 2 + it.column;
    const int unit = (tile * UT + it.tile) * U + it.half * 8 + it.lane / 4;
    it.place = place_at(row, unit, epi.units());
    it.inside = i < kItems && unit < epi.units();
    return it;
  }

  // Finds the items, what does not change from step to step, and the states, of so many rows.
  FASTRNN_DEVICE void begin(const Epilogue& epi, int rows, int tile, int first_group) {
#pragma unroll
    for (int m = 0; m < kMine; ++m) {
      items[m] = item(epi, m, tile, first_group);
      if (!items[m].inside || items[m].place.row >= rows) continue;
      epi.fix(fixed[m], items[m].place.unit);
      epi.start(state[m], items[m].place);
    }
  }
  FASTRNN_DEVICE bool takes_part(const Epilogue& epi, const Step& step, int m) const {
    return items[m].inside && items[m].place.row < epi.rows(step);
  }
  FASTRNN_DEVICE void load(const Epilogue& epi, const Step& step) {
#pragma unroll
    for (int m = 0; m < kMine; ++m)
      if (takes_part(epi, step, m)) epi.load(loaded[m], step, items[m].place);
  }
  FASTRNN_DEVICE void write(const Epilogue& epi, const Step& step) const {
#pragma unroll
    for (int m = 0; m < kMine; ++m)
      if (takes_part(epi, step, m)) epi.write(result[m], step, items[m].place);
  }

  // Adds this warp's k blocks [first, last) in steps of `stride` to sums. w: the tile's; h: the first group's.
  static FASTRNN_DEVICE void multiply_blocks(A (&sums)[NT][HALVES][2], const Piece* w, const Piece* h, int first,
                                             int last, int stride, int kblocks) {
    const int lane = thread_index() % 32;
    // exact products have many loads in flight as it is
#pragma unroll(Op::kMatrix ? 2 : 1)
    for (int kb = first; kb < last; kb += stride) {
      const Piece* wk = w + int64_t(kb) * HALVES * 32;
      if constexpr (Op::kMatrix) {
        Piece a[HALVES];
#pragma unroll
        for (int i = 0; i < HALVES; ++i) a[i] = wk[i * 32 + lane];
#pragma unroll
        for (int n = 0; n < NT; ++n)
          multiply<Op, HALVES>(sums[n], a, load_piece(h + (int64_t(n) * kblocks + kb) * 32 + lane));
      } else {
#pragma unroll
        for (int n = 0; n < NT; ++n)
          multiply_exact<Op, HALVES>(sums[n], wk, h + (int64_t(n) * kblocks + kb) * 32, lane);
      }
    }
  }

  static FASTRNN_DEVICE void put(A* shared, const A (&sums)[NT][HALVES][2]) {
    const int warp = thread_index() / 32, lane = thread_index() % 32;
#pragma unroll
    for (int n = 0; n < NT; ++n)
#pragma unroll
      for (int i = 0; i < HALVES; ++i)
#pragma unroll
        for (int c = 0; c < 2; ++c) shared[(((warp * NT + n) * HALVES + i) * 2 + c) * 32 + lane] = sums[n][i][c];
  }

  // After put and a barrier: adds up item m and runs the epilogue, if the item takes part.
  FASTRNN_DEVICE bool finish(const Epilogue& epi, const Step& step, int m, const A* shared,
                             A (&out)[Epilogue::kResults]) {
    if (!takes_part(epi, step, m)) return false;
    const Item& it = items[m];
    A sums[G];
#pragma unroll
    for (int g = 0; g < G; ++g) {
      sums[g] = A(0);
#pragma unroll
      for (int w = 0; w < KS; ++w)
        sums[g] +=
            shared[((((it.tile * KS + w) * NT + it.group) * HALVES + g * UH + it.half) * 2 + it.column) * 32 + it.lane];
    }
    epi.finish(fixed[m], state[m], loaded[m], result[m], step, it.place, sums, out);
    return true;
  }
};

// The operand of a product: [batch group][k block][lane]. Where k runs over several results of a unit, it goes through
// `spread` units of one result, the same units of the next, ..., and then through the next units.
template <class Op>
struct Operand {
  typename Op::Element* data = nullptr;
  int kblocks = 0, spread = 1;
  template <int RESULTS>
  FASTRNN_DEVICE int64_t column(int result, int unit) const {
    return RESULTS == 1 ? unit : int64_t(unit / spread * RESULTS + result) * spread + unit % spread;
  }
  FASTRNN_BOTH const Piece* group(int g) const {
    return reinterpret_cast<const Piece*>(data) + int64_t(g) * kblocks * 32;
  }
  FASTRNN_DEVICE typename Op::Element& at(int row, int64_t k) const {
    return data[int64_t(row / 8) * kblocks * Layout<Op>::kBlock * 8 + Layout<Op>::at(row % 8, k)];
  }
  FASTRNN_DEVICE typename Op::Element get(int row, int64_t k) const { return at(row, k); }
  FASTRNN_DEVICE void put(int row, int64_t k, typename Op::Acc v) const { at(row, k) = Op::element(v); }
};

// One step of one tile for NT groups, by one block. w: all tiles.
template <class Op, class Epilogue, int NT>
FASTRNN_DEVICE void run_tile(const Epilogue& epi, const Step& step, const Piece* w, const Operand<Op>& in,
                             const Operand<Op>& out, int tile, int first_group) {
  using Tl = Tile<Op, Epilogue, NT>;
  using A = typename Op::Acc;
  Tl t;
  t.begin(epi, epi.rows(step), tile, first_group);
  t.load(epi, step);
  A sums[NT][Tl::HALVES][2] = {};
  Tl::multiply_blocks(sums, w + int64_t(tile) * in.kblocks * Tl::HALVES * 32, in.group(first_group),
                      thread_index() / 32, in.kblocks, kWarps, in.kblocks);
  A* shared = reinterpret_cast<A*>(shared_memory());
  Tl::put(shared, sums);
  sync_threads();
#pragma unroll
  for (int m = 0; m < Tl::kMine; ++m) {
    A values[Epilogue::kResults];
    if (!t.finish(epi, step, m, shared, values)) continue;
    const Place& place = t.items[m].place;
    epi.keep(t.state[m], place);
    if (out.data)
#pragma unroll
      for (int r = 0; r < Epilogue::kResults; ++r)
        out.put(place.row, out.template column<Epilogue::kResults>(r, place.unit), values[r]);
  }
  t.write(epi, step);
}

// One step. Grid: (batch groups / NT, tiles): blocks that follow one another read the same weights.
template <class Op, class Epilogue, int NT>
FASTRNN_KERNEL void FASTRNN_BOUNDS(kThreads)
    step_kernel(Epilogue epi, Step step, const Piece* w, Operand<Op> in, Operand<Op> out) {
  run_tile<Op, Epilogue, NT>(epi, step, w, in, out, block_y(), block_x() * NT);
}

// The epilogue of one step alone, of sums (rows, outputs, units) that somebody else made; null: zeros.
template <class Op, class Epilogue>
FASTRNN_KERNEL void FASTRNN_BOUNDS(kThreads) cell_kernel(Epilogue epi, Step step, const typename Op::Acc* sums) {
  using A = typename Op::Acc;
  constexpr int G = Epilogue::kOutputs;
  const int units = epi.units();
  const int64_t all = int64_t(epi.rows(step)) * units;
  for (int64_t i = int64_t(block_x()) * kThreads + thread_index(); i < all; i += int64_t(blocks_x()) * kThreads) {
    const Place place = place_at(int(i / units), int(i % units), units);
    typename Epilogue::Fixed fixed;
    typename Epilogue::State state;
    typename Epilogue::Loaded loaded;
    typename Epilogue::Result result;
    epi.fix(fixed, place.unit);
    epi.start(state, place);
    epi.load(loaded, step, place);
    A given[G], out[Epilogue::kResults];
#pragma unroll
    for (int g = 0; g < G; ++g) given[g] = sums ? sums[(int64_t(place.row) * G + g) * units + place.unit] : A(0);
    epi.finish(fixed, state, loaded, result, step, place, given, out);
    epi.keep(state, place);
    epi.write(result, step, place);
  }
}

// W in tiles: value(gate, unit, k) = src[(gate * units + unit) * row + k * column], zero past units and K. Where k runs
// over `results` of each of K / results units, its order is that of an operand of this spread.
template <class Op>
struct Packing {
  const typename Op::Storage* src;
  typename Op::Element* dst;
  int64_t row, column;
  int units, gates, unit_halves;
  int64_t K;
  int kblocks, results, spread;
  int64_t pieces;  // of dst

  // The part of one of `stride` threads.
  FASTRNN_DEVICE void run(int64_t thread, int64_t stride) const {
    using E = typename Op::Element;
    constexpr int N = Layout<Op>::kPerPiece;
    union Values {
      Piece piece;
      E v[N];
    };
    const int halves = gates * unit_halves, deep = int(K / results);  // units that k runs over
    for (int64_t i = thread; i < pieces; i += stride) {
      const int lane = int(i % 32), tile_kb = int(i / 32 / halves);  // of kblocks in each tile
      const int half = int(i / 32 % halves), kb = tile_kb % kblocks, tile = tile_kb / kblocks;
      const int unit = (tile * unit_halves + half % unit_halves) * 8 + lane / 4;
      const auto* from = src + (int64_t(half / unit_halves) * units + unit) * row;
      Values out;
#pragma unroll
      for (int j = 0; j < N; ++j) {
        const int at = kb * Layout<Op>::kBlock + lane % 4 * N + j;
        const int deep_unit = at / (spread * results) * spread + at % spread;
        const int64_t k = int64_t(at / spread % results) * deep + deep_unit;
        out.v[j] = Op::element(unit < units && deep_unit < deep ? Op::load(from[k * column]) : typename Op::Acc(0));
      }
      reinterpret_cast<Piece*>(dst)[i] = out.piece;
    }
  }
};

// What a pass starts from: both operand buffers from src (B, K) (null: zeros), and up to two running states.
template <class Op>
struct Begin {
  using S = typename Op::Storage;
  using A = typename Op::Acc;
  const S* src;
  Operand<Op> slot[2];
  int64_t B, K, elements;  // of one slot
  const S* from[2];        // null: zeros
  A* to[2];
  int64_t n[2];
  uint32_t* flags = nullptr;  // set to zero
  int64_t flag_count = 0;
  Piece* mail = nullptr;  // like so many slots; what will be sent is set to `empty`, the rest to zero
  int64_t mail_pieces = 0;
  uint32_t empty = 0;

  // The part of one of `stride` threads.
  FASTRNN_DEVICE void run(int64_t thread, int64_t stride) const {
    constexpr int N = Layout<Op>::kPerPiece;
    for (int64_t i = thread; i < elements; i += stride) {
      const int lane = int(i / N % 32);
      const int64_t kb = i / (N * 32) % slot[0].kblocks, group = i / (int64_t(N) * 32 * slot[0].kblocks);
      const int64_t b = group * 8 + lane / 4, k = kb * Layout<Op>::kBlock + lane % 4 * N + i % N;
      const auto v = Op::element(b < B && k < K ? value<Op>(src, b * K + k) : A(0));
      slot[0].data[i] = v;
      if (slot[1].data) slot[1].data[i] = v;
    }
    for (int j = 0; j < 2; ++j)
      for (int64_t i = thread; i < n[j]; i += stride) to[j][i] = value<Op>(from[j], i);
    for (int64_t i = thread; i < flag_count; i += stride) flags[i] = 0;
    for (int64_t i = thread; i < mail_pieces; i += stride) {
      const int64_t k = i / 32 % slot[0].kblocks * Layout<Op>::kBlock + i % 4 * N;
      const uint32_t v = k < K ? empty : 0;
      mail[i] = Piece{{v, v, v, v}};
    }
  }
};

// Packs the weights of a product, and lays out what it starts from.
template <class Op>
FASTRNN_KERNEL void FASTRNN_BOUNDS(kThreads) prepare_kernel(Packing<Op> weights, Begin<Op> start) {
  const int64_t thread = int64_t(block_x()) * kThreads + thread_index(), stride = int64_t(blocks_x()) * kThreads;
  weights.run(thread, stride);
  start.run(thread, stride);
}

}  // namespace cuda
}  // namespace fastrnn
