// The register tile: the inner loop of the products in the CPU kernels, but for those of one row (row_kernel), of few
// rows (unpacked.h) and of matrix tiles (amx.h).
//
//   out[r][j] = init[r][j] + sum_k a[r * row_stride + k * k_stride] * panel[k][j],   r < rows, j < NV vectors
//
// A panel is NV vectors wide and contiguous over k; a is read by broadcast. K, strides and panels count words (operands.h).
// NV is the number of gates for a cell's panels (all gates of a unit block side by side) and 2 elsewhere.
#pragma once
#include "amx.h"
#include "machine.h"
#include "pack.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

// Accumulators + one panel vector + one broadcast a row must fit the register file; more than 12 rows would spill their
// addresses.
template <int NV>
constexpr int kTileRows = NV == 1 ? 12 : (kVectorRegisters == 32 ? 24 : 12) / NV;

constexpr int kHalf = 6;  // rows of a tile from which on a second base address is used

// acc += column of a x row of panel. The shorter side is held in registers, the longer passes by one at a time: one
// order for all would spill (12 accumulators + 4 + 1 > 16).
template <class T, int NV, int MR>
FASTRNN_INLINE void rank_one(Vec<T> (&acc)[MR][NV], const T* low, const T* high, int64_t row_stride, const T* panel) {
  using V = Vec<T>;
  constexpr int L = kLanes<T>;
  const auto a = [&](int r) { return r < kHalf ? low + r * row_stride : high + (r - kHalf) * row_stride; };
  if constexpr (MR < NV) {
    V x[MR];
    FASTRNN_UNROLL
    for (int r = 0; r < MR; ++r) x[r] = broadcast_word(a(r));
    FASTRNN_UNROLL
    for (int j = 0; j < NV; ++j) {
      const V p = load(panel + j * L);
      FASTRNN_UNROLL
      for (int r = 0; r < MR; ++r) acc[r][j] = multiply_add<T>(acc[r][j], x[r], p);
    }
  } else {
    V p[NV];
    FASTRNN_UNROLL
    for (int j = 0; j < NV; ++j) p[j] = load(panel + j * L);
    FASTRNN_UNROLL
    for (int r = 0; r < MR; ++r) {
      const V x = broadcast_word(a(r));
      FASTRNN_UNROLL
      for (int j = 0; j < NV; ++j) acc[r][j] = multiply_add<T>(acc[r][j], x, p[j]);
    }
  }
}

// Memory that is to be brought to the second-level cache while a tile is computed.
struct Ahead {
  const char *first = nullptr, *last = nullptr;
};
constexpr int64_t kLine = 64;  // bytes; where a processor's lines are longer, some are asked for twice

// A far slice, dealt out to the tiles that work while it comes.
class Shares {
 public:
  // next: null where nothing is wanted. The first of the tiles has to fetch its own panel.
  Shares(const void* next, int64_t bytes, int64_t tiles) {
    if (!next || tiles < 2) return;
    ahead_.first = ahead_.last = static_cast<const char*>(next);
    share_ = (bytes / (tiles - 1) + 2 * kLine - 1) / (2 * kLine) * (2 * kLine);  // may ask for some lines more
  }
  // for one tile after the other
  Ahead take() {
    const Ahead own = ahead_;
    ahead_.first = ahead_.last, ahead_.last += share_;
    return own;
  }

 private:
  Ahead ahead_;
  int64_t share_ = 0;
};

// Where a panel is: packed, its rows one behind the other, or columns of a matrix as it lies, whose rows are `pitch`
// apart. Ahead: then the columns beside it are asked for.
enum class Panel { packed, in_matrix, in_matrix_ahead };

// KU independent sums hide the FMA latency where a tile has few accumulators.
template <class T, int NV, int MR, int KU, Panel Lies = Panel::packed>
FASTRNN_NOINLINE void tile_kernel(int64_t K, const T* a, int64_t row_stride, int64_t k_stride, const T* panel,
                                  const T* init, int64_t init_stride, T* out, int64_t out_stride, Ahead ahead,
                                  int64_t pitch = 0) {
  using V = Vec<T>;
  constexpr int L = kLanes<T>;
  if (Lies == Panel::packed) pitch = NV * L;
  V acc[KU][MR][NV];
  FASTRNN_UNROLL
  for (int r = 0; r < MR; ++r) {
    FASTRNN_UNROLL
    for (int j = 0; j < NV; ++j) {
      FASTRNN_UNROLL
      for (int u = 0; u < KU; ++u) acc[u][r][j] = V{};
    }
  }
  // Two bases, not known to belong together: the addresses of six rows fit x86's scaled registers, those of twelve do
  // not, and would be spilled and loaded again for each k.
  const T* high = a + kHalf * row_stride;
  asm("" : "+r"(high));
  int64_t k = 0;
  const auto next = [&]() __attribute__((always_inline)) {
    FASTRNN_UNROLL
    for (int u = 0; u < KU; ++u) {
      if constexpr (Lies == Panel::in_matrix_ahead) {
        FASTRNN_UNROLL
        for (int j = 0; j < NV; ++j) __builtin_prefetch(panel + u * pitch + (NV + j) * L);
      }
      rank_one<T, NV, MR>(acc[u], a + u * k_stride, high + u * k_stride, row_stride, panel + u * pitch);
    }
    a += KU * k_stride, high += KU * k_stride;
    panel += KU * pitch;
    k += KU;
  };
  // The results' lines are needed when the sums are done, and often far away. They are asked for row by row: all at
  // once they would stand before the panel's in the queue of what the first-level cache waits for.
  const T* row = out;
  for (int r = 0; r < MR && k + KU <= K; ++r, row += out_stride) {
    FASTRNN_UNROLL
    for (int j = 0; j < NV; ++j) __builtin_prefetch(row + j * L, 1);
    next();
  }
  for (; ahead.first < ahead.last && k + KU <= K; ahead.first += 2 * kLine) {
    __builtin_prefetch(ahead.first, 0, 2);
    __builtin_prefetch(ahead.first + kLine, 0, 2);
    next();
  }
  while (k + KU <= K) next();
  for (; k < K; ++k, a += k_stride, high += k_stride, panel += pitch)
    rank_one<T, NV, MR>(acc[0], a, high, row_stride, panel);
  FASTRNN_UNROLL
  for (int r = 0; r < MR; ++r) {
    FASTRNN_UNROLL
    for (int j = 0; j < NV; ++j) {
      V sum = acc[0][r][j];
      FASTRNN_UNROLL
      for (int u = 1; u < KU; ++u) sum += acc[u][r][j];
      // last, so that a long running total is rounded once a slice and not once a term
      if (init) sum += load(init + r * init_stride + j * L);
      store(out + r * out_stride + j * L, sum);
    }
  }
}

constexpr int64_t kBytesAhead = 1024;  // of a panel (machine.h, asks_ahead); twice as many are as good, half are not

// The tile of one row whose values are neighbours: 16 bytes of them by one load. AskAhead: for the panel's bytes to come.
template <class T, int NV, bool AskAhead, size_t... I>
FASTRNN_NOINLINE void row_kernel(int64_t K, const T* a, const T* panel, const T* init, T* out,
                                 std::index_sequence<I...>) {
  using V = Vec<T>;
  constexpr int L = kLanes<T>, Q = kQuad<T>;
  constexpr int chains = kVectorRegisters == 32 || NV < 3 ? Q : 2;
  constexpr auto lanes = std::make_index_sequence<L>{};
  V acc[chains][NV] = {};
  const auto add = [&](V x, int chain) __attribute__((always_inline)) {
    FASTRNN_UNROLL
    for (int j = 0; j < NV; ++j) {
      if constexpr (AskAhead) __builtin_prefetch(reinterpret_cast<const char*>(panel + j * L) + kBytesAhead);
      acc[chain][j] = multiply_add<T>(acc[chain][j], x, load(panel + j * L));
    }
    panel += NV * L;
  };
  int64_t k = 0;
  for (; k + Q <= K; k += Q) {
    const V quads = load_quads(a + k);
    (add(word_of_quads<T, I>(quads, lanes), I % chains), ...);
  }
  for (; k < K; ++k) add(broadcast_word(a + k), 0);
  FASTRNN_UNROLL
  for (int j = 0; j < NV; ++j) {
    V sum = acc[0][j];
    FASTRNN_UNROLL
    for (int c = 1; c < chains; ++c) sum += acc[c][j];
    if (init) sum += load(init + j * L);
    store(out + j * L, sum);
  }
}

template <class T, int NV, Panel Lies = Panel::packed, int MR = kTileRows<NV>>
inline void tile(int rows, int64_t K, const T* a, int64_t row_stride, int64_t k_stride, const T* panel, const T* init,
                 int64_t init_stride, T* out, int64_t out_stride, Ahead ahead = {}, int64_t pitch = 0) {
  if constexpr (MR > 1)
    if (rows < MR)
      return tile<T, NV, Lies, MR - 1>(rows, K, a, row_stride, k_stride, panel, init, init_stride, out, out_stride,
                                       ahead, pitch);
  // a tile of one row is the only one: nothing is asked for ahead
  if constexpr (MR == 1 && Lies == Panel::packed)
    if (k_stride == 1) {
      constexpr auto quad = std::make_index_sequence<kQuad<T>>{};
      // short panels of few vectors a processor finds soon enough by itself
      const bool ahead = machine().asks_ahead && (NV >= 4 || K * NV * kVectorBytes > (32 << 10));
      return ahead ? row_kernel<T, NV, true>(K, a, panel, init, out, quad)
                   : row_kernel<T, NV, false>(K, a, panel, init, out, quad);
    }
  constexpr int chains = MR * NV;
  constexpr int KU = chains >= 8 ? 1 : chains >= 3 ? 2 : 4;
  tile_kernel<T, NV, MR, KU, Lies>(K, a, row_stride, k_stride, panel, init, init_stride, out, out_stride, ahead, pitch);
}

// body(first, size) for each of the `parts` parts of n, which differ by at most one. One division at most: next to the
// product of one row by a small panel, a division for each part would be seen. One call of the body: it is inlined.
template <class Body>
FASTRNN_INLINE void for_parts(int64_t n, int64_t parts, Body&& body) {
  int64_t size = n, smaller = 1;
  if (parts > 1) size = n / parts, smaller = parts - n % parts;
  for (int64_t i = 0, first = 0; i < parts; ++i) {
    const int64_t own = size + (i >= smaller);
    body(first, own);
    first += own;
  }
}

// Terms of a slice of K: for most sums; where a few tiles take turns in fetching a far panel; and of dx, where gates'
// gradients of other sizes follow each other, and small ones would be rounded off a long total of large ones (a GRU's dx
// of 64 units is 1.4 times as far off as torch's; by 256 terms, 2.2 times).
constexpr int64_t kTerms = 256, kBriefTerms = 64, kTermsOfDx = 128;

// body(k, depth) for each slice of K, of a panel of NV vectors. K is cut so that no sum runs over more than about so many
// terms, because sums of slices round less, and so that a slice of the panel is still in the cache when the next tile of
// rows wants it.
template <int NV, class Body>
FASTRNN_INLINE void for_slices(int64_t K, int64_t terms, Body&& body) {
  if (kMatrixTiles) return body(int64_t(0), K);  // they may compute a row twice, which must not be added to itself
  const int64_t most = std::min<int64_t>(terms, machine().slice_bytes / (NV * kVectorBytes));
  for_parts(K, K < most + most / 2 ? 1 : (K + most / 2) / most, body);
}

// out (rows, NV vectors) = bias (one panel row, or null; later slices: out) + a (rows, K; columns adjacent) * panel, of
// which this is the slice [k, k + depth). next: the slice that is wanted after it, where that is far, or null: the first
// tile fetches this one, the others find it in the first-level cache, and what is far would rest meanwhile. beside: of
// matrix tiles, or null.
template <class T, int NV>
FASTRNN_INLINE void slice_product(int64_t k, int64_t depth, int64_t rows, const T* a, int64_t row_stride,
                                  const T* panel, const T* bias, T* out, int64_t out_stride, const T* next,
                                  Beside* beside = nullptr) {
  constexpr int64_t width = NV * kLanes<T>;
#if defined(FASTRNN_AMX)
  (void)next;
  matrix_product<NV>(rows, depth, a + k, row_stride, panel + k * width, k ? out : bias, k ? out_stride : 0, out,
                     out_stride, beside);
#else
  (void)beside;
  constexpr int MR = kTileRows<NV>;
  const int64_t tiles = (rows + MR - 1) / MR;
  Shares shares(next, depth * width * int64_t(sizeof(T)), tiles);
  // rows are dealt evenly: 16 rows by tiles of 3 are 2 2 3 3 3 3, not 3 3 3 3 3 1
  for_parts(rows, tiles, [&](int64_t r, int64_t m) __attribute__((always_inline)) {
    T* o = out + r * out_stride;
    tile<T, NV>(int(m), depth, a + r * row_stride + k, row_stride, 1, panel + k * width, k ? o : bias,
                k ? out_stride : 0, o, out_stride, shares.take());
  });
#endif
}

constexpr int64_t kFewRows = 64;  // from so many on, a slice of a far panel is in work for longer than it is fetched

// Where a product's panels come from: whether from beyond the second-level cache, and the panel wanted after this one,
// or null; and what is done beside it.
template <class T>
struct From {
  bool far = false;
  const T* then = nullptr;
  Beside* beside = nullptr;
  int64_t terms(int64_t rows) const { return far && rows < kFewRows && machine().short_slices ? kBriefTerms : kTerms; }
  // What to ask for while a slice is in work: the panel's next slice, or after its last one the next panel.
  const T* next(const T* slice, bool last) const { return !far ? nullptr : last ? then : slice; }
};

// out (rows, NV vectors) = bias (one panel row, or null) + a (rows, K; columns adjacent) * panel (K, NV vectors)
template <class T, int NV>
FASTRNN_INLINE void panel_product(int64_t rows, int64_t K, const T* a, int64_t row_stride, const T* panel,
                                  const T* bias, T* out, int64_t out_stride = NV * kLanes<T>,
                                  const From<T>& from = {}) {
  for_slices<NV>(K, from.terms(rows), [&](int64_t k, int64_t depth) __attribute__((always_inline)) {
    slice_product<T, NV>(k, depth, rows, a, row_stride, panel, bias, out, out_stride,
                         from.next(panel + (k + depth) * NV * kLanes<T>, k + depth == K), from.beside);
  });
}

// Row k of panel p of an operand of n columns in panels of K words (pack.h)
template <class T>
inline const T* plain_row(const T* operand, int64_t K, int64_t n, int64_t p, int64_t k) {
  return operand + (p * K * 2 + k * panel_vectors<T>(n, p)) * kLanes<T>;
}

// One slice of the columns of panel p: out (rows, those columns) [+]= a (rows, K) * panel p; next: as above
template <class T>
inline void plain_slice(int64_t k, int64_t depth, int64_t rows, int64_t K, const T* a, int64_t row_stride,
                        const T* operand, int64_t n, int64_t p, T* out, int64_t out_stride, const T* next) {
  const T* panel = plain_row(operand, K, n, p, 0);
  if (panel_vectors<T>(n, p) == 1)
    slice_product<T, 1>(k, depth, rows, a, row_stride, panel, nullptr, out, out_stride, next);
  else
    slice_product<T, 2>(k, depth, rows, a, row_stride, panel, nullptr, out, out_stride, next);
}

// out (rows, columns of panel p) = a (rows, K) * panel p
template <class T>
inline void plain_product(int64_t rows, int64_t K, const T* a, int64_t row_stride, const T* operand, int64_t n,
                          int64_t p, T* out, int64_t out_stride, int64_t terms = kTerms, const From<T>& from = {}) {
  for_slices<2>(K, terms, [&](int64_t k, int64_t depth) {
    plain_slice(k, depth, rows, K, a, row_stride, operand, n, p, out, out_stride,
                from.next(plain_row(operand, K, n, p, k + depth), k + depth == K));
  });
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
