// Packing of matrices into panels (see tile.h), with conversion from the storage type and zeros where a matrix ends.
#pragma once
#include <utility>

#include "simd.h"

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

// dst [k][width]: lane l of vector `dst + k * width` is rows[l][k]; a row that is null counts as zeros.
template <class T>
inline void pack_transposed(T* dst, int64_t width, const void* const (&rows)[kLanes<T>], DType d, int64_t K) {
  constexpr int L = kLanes<T>;
  for (int64_t k = 0; k < K; k += L) {
    const int64_t n = K - k < L ? K - k : L;
    Vec<T> block[L];
    for (int l = 0; l < L; ++l) block[l] = rows[l] ? load_lanes<T>(at(rows[l], d, k), d, n) : Vec<T>{};
    transpose<T>(block);
    for (int64_t i = 0; i < n; ++i) store(dst + (k + i) * width, block[i]);
  }
}

// One panel of `vectors` vectors: column j of dst [k][vectors * L] is the row of K values at row(j), zeros where that is null.
template <class T, class Row>
inline void pack_panel(T* dst, int vectors, DType d, int64_t K, Row&& row) {
  constexpr int L = kLanes<T>;
  for (int v = 0; v < vectors; ++v) {
    const void* rows[L];
    for (int l = 0; l < L; ++l) rows[l] = row(v * L + l);
    pack_transposed<T>(dst + v * L, vectors * L, rows, d, K);
  }
}

// Operands without gates: n columns in panels of two vectors, of which the last is one vector wide where that is enough.
// Panel p of K rows stands at p * K * 2L.
template <class T>
constexpr int64_t panels(int64_t n) {
  return (n + 2 * kLanes<T> - 1) / (2 * kLanes<T>);
}
template <class T>
constexpr int panel_vectors(int64_t n, int64_t p) {
  return n - p * 2 * kLanes<T> <= kLanes<T> ? 1 : 2;
}

// Row `src` (or zeros, if null) of n values becomes row k of the panels [first, last). A row is read in one go, whatever the
// number of panels.
template <class T>
FASTRNN_INLINE void pack_row(T* dst, int64_t K, int64_t k, const void* src, DType d, int64_t n, int64_t first,
                             int64_t last) {
  constexpr int L = kLanes<T>;
  for (int64_t p = first; p < last; ++p) {
    const int NV = panel_vectors<T>(n, p);
    for (int v = 0; v < NV; ++v) {
      const int64_t c = (2 * p + v) * L;
      store(dst + (2 * p * K + k * NV + v) * L, src && c < n ? load_lanes<T>(at(src, d, c), d, n - c) : Vec<T>{});
    }
  }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
