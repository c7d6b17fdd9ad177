// Packing of matrices into panels (see tile.h), with conversion from the storage type and zeros where a matrix ends.
#pragma once
#include <algorithm>
#include <utility>

#include "operands.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

// The low or high halves of a and b, element by element in turn.
template <class T, int High, size_t... I>
FASTRNN_INLINE Vec<T> zip(Vec<T> a, Vec<T> b, std::index_sequence<I...>) {
  constexpr int L = kLanes<T>;
#if defined(__clang__)
  return __builtin_shufflevector(a, b, int(I % 2 ? L + I / 2 + High * L / 2 : I / 2 + High * L / 2)...);
#else
  using U = typename Simd<T>::U;
  return __builtin_shuffle(a, b, U{(I % 2 ? L + I / 2 + High * L / 2 : I / 2 + High * L / 2)...});
#endif
}

// Transposes L x L values in place: log2(L) rounds of a perfect shuffle.
template <class T>
FASTRNN_INLINE void transpose(Vec<T> (&rows)[kLanes<T>]) {
  constexpr int L = kLanes<T>;
  constexpr auto lanes = std::make_index_sequence<L>{};
  FASTRNN_UNROLL
  for (int round = 1; round < L; round *= 2) {
    Vec<T> next[L];
    FASTRNN_UNROLL
    for (int i = 0; i < L / 2; ++i) {
      next[2 * i] = zip<T, 0>(rows[i], rows[i + L / 2], lanes);
      next[2 * i + 1] = zip<T, 1>(rows[i], rows[i + L / 2], lanes);
    }
    FASTRNN_UNROLL
    for (int i = 0; i < L; ++i) rows[i] = next[i];
  }
}

// Lane l of the result is the sum of the lanes of rows[l]: the rounds of transpose, with an addition after each, which
// halves what is left to shuffle.
template <class T, int N = kLanes<T>>
FASTRNN_INLINE Vec<T> add_across(const Vec<T> (&rows)[N]) {
  if constexpr (N == 1) {
    return rows[0];
  } else {
    constexpr auto lanes = std::make_index_sequence<kLanes<T>>{};
    Vec<T> sums[N / 2];
    FASTRNN_UNROLL
    for (int i = 0; i < N / 2; ++i)
      sums[i] = zip<T, 0>(rows[i], rows[i + N / 2], lanes) + zip<T, 1>(rows[i], rows[i + N / 2], lanes);
    return add_across<T, N / 2>(sums);
  }
}

template <class T, bool PastCaches>
FASTRNN_INLINE void put_word(T* dst, Vec<T> word) {
  if constexpr (PastCaches)
    store_past_caches(dst, word);
  else
    store(dst, word);
}

// dst [word][width], panel_words(K) words: lane l of vector `dst + k * width` is word k of rows[l], a row of K values;
// one that is null counts as zeros. PastCaches: where other threads will read it, from caches far from this one's.
template <class T, bool PastCaches>
inline void pack_transposed(T* dst, int64_t width, const void* const (&rows)[kLanes<T>], DType d, int64_t K) {
  constexpr int L = kLanes<T>, values = kPairs ? 2 * L : L;
  const auto put = [&](int64_t k, int64_t n, auto&& words_of) __attribute__((always_inline)) {
    Vec<T> block[L];
    FASTRNN_UNROLL
    for (int l = 0; l < L; ++l) block[l] = words_of(rows[l]);
    transpose<T>(block);
    FASTRNN_UNROLL
    for (int i = 0; i < L; ++i)
      if (i < n) put_word<T, PastCaches>(dst + (words(k) + i) * width, block[i]);
  };
  // without a question in the loop where each row is there and in the type of the operands
  int64_t k = 0;
  if (d == kOperand<T> && std::find(rows, rows + L, nullptr) == rows + L)
    for (; k + values <= K; k += values)
      put(k, L, [&](const void* row) { return load_words<T>(at(row, kOperand<T>, k), kOperand<T>, values); });
  for (; k < K; k += values)
    put(k, kMatrixTiles ? L : words(K - k),
        [&](const void* row) { return row ? load_words<T>(at(row, d, k), d, K - k) : Vec<T>{}; });
}

// One panel of `vectors` vectors: column j of dst [word][vectors * L] is the row of K values at row(j), zeros where
// null.
template <class T, bool PastCaches = false, class Row>
inline void pack_panel(T* dst, int vectors, DType d, int64_t K, Row&& row) {
  constexpr int L = kLanes<T>;
  for (int v = 0; v < vectors; ++v) {
    const void* rows[L];
    for (int l = 0; l < L; ++l) rows[l] = row(v * L + l);
    pack_transposed<T, PastCaches>(dst + v * L, vectors * L, rows, d, K);
  }
}

// Operands without gates: n columns in panels of two vectors, of which the last is one vector wide where that is
// enough.
// Panel p of K words stands at p * K * 2L.
template <class T>
constexpr int64_t panels(int64_t n) {
  return (n + 2 * kLanes<T> - 1) / (2 * kLanes<T>);
}
template <class T>
constexpr int panel_vectors(int64_t n, int64_t p) {
  return n - p * 2 * kLanes<T> <= kLanes<T> ? 1 : 2;
}

// Packs the panels [first, last), of K words, of a matrix given row by row: a row of n values, or null for zeros, is
// read in one go, whatever the number of panels. A word holds one row's value, or with pairs those of two rows.
template <class T>
class RowPacker {
 public:
  RowPacker(T* dst, int64_t K, DType d, int64_t n, int64_t first, int64_t last, bool past_caches = false)
      : dst_(dst), K_(K), d_(d), n_(n), first_(first), last_(last), past_caches_(past_caches) {}
  FASTRNN_INLINE void add(const void* row) {
    if constexpr (!kPairs) return put(row, nullptr);
    if (odd_) put(held_, row);
    held_ = row, odd_ = !odd_;
  }
  void finish() {
    if (odd_) put(held_, nullptr);
    while (k_ < K_) put(nullptr, nullptr);
  }

 private:
  FASTRNN_INLINE void put(const void* a, const void* b) {
    constexpr int L = kLanes<T>;
    for (int64_t p = first_; p < last_; ++p) {
      const int NV = panel_vectors<T>(n_, p);
      for (int v = 0; v < NV; ++v) {
        const int64_t c = (2 * p + v) * L;
        Vec<T> word{};
        if ((a || b) && c < n_)
          word = load_column_words<T>(a ? at(a, d_, c) : nullptr, b ? at(b, d_, c) : nullptr, d_, n_ - c);
        T* to = dst_ + (2 * p * K_ + k_ * NV + v) * L;
        past_caches_ ? store_past_caches(to, word) : store(to, word);
      }
    }
    ++k_;
  }
  T* dst_;     // [panel][K words][2L]
  int64_t K_;  // words
  DType d_;
  int64_t n_, first_, last_, k_ = 0;
  const void* held_ = nullptr;
  bool odd_ = false;
  const bool past_caches_;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
