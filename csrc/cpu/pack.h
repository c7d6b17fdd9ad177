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

// dst [k][width]: lane l of column vector `dst + k * width` is src[row l][k], for `rows` <= L rows; src (rows, K).
template <class T>
inline void pack_transposed(T* dst, int64_t width, const void* src, DType d, int64_t rows, int64_t K) {
  constexpr int L = kLanes<T>;
  for (int64_t k = 0; k < K; k += L) {
    const int64_t n = K - k < L ? K - k : L;
    Vec<T> block[L];
    for (int l = 0; l < L; ++l) block[l] = l < rows ? load_lanes<T>(at(src, d, l * K + k), d, n) : Vec<T>{};
    transpose<T>(block);
    for (int64_t i = 0; i < n; ++i) store(dst + (k + i) * width, block[i]);
  }
}

// One unit block of gate weights src (G*H, K): dst [k][gate][unit of the block].
template <class T, int G, int UV>
inline void pack_gates(T* dst, const void* src, DType d, int64_t H, int64_t K, int64_t first_unit) {
  constexpr int L = kLanes<T>;
  constexpr int64_t width = G * UV * L;
  for (int g = 0; g < G; ++g)
    for (int v = 0; v < UV; ++v) {
      const int64_t unit = first_unit + v * L, n = H - unit < 0 ? 0 : H - unit;
      const void* rows = n ? at(src, d, (g * H + unit) * K) : src;
      pack_transposed<T>(dst + (g * UV + v) * L, width, rows, d, n < L ? n : L, K);
    }
}

// Panels of 2 vectors: row `src` (or zeros, if null) of `columns` values becomes row k of the panels [first, last), each
// (K, 2L) at dst + panel * K * 2L. A row is read in one go, whatever the number of panels.
template <class T>
FASTRNN_INLINE void pack_row(T* dst, int64_t K, int64_t k, const void* src, DType d, int64_t columns, int64_t first,
                             int64_t last) {
  constexpr int L = kLanes<T>;
  for (int64_t p = first; p < last; ++p)
    for (int v = 0; v < 2; ++v) {
      const int64_t c = (2 * p + v) * L;
      store(dst + ((p * K + k) * 2 + v) * L,
            src && c < columns ? load_lanes<T>(at(src, d, c), d, columns - c) : Vec<T>{});
    }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
