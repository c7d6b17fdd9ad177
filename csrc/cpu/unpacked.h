// Products of few rows or few terms, with all operands as they lie in memory: to pack them would cost more. Columns of a
// matrix are multiplied by the register tile (tile.h), rows of one by dot products, and few terms from row to row.
#pragma once
#include "tile.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

// Terms of a sum of outer products up to which their factors need not be packed.
constexpr int64_t kFewTerms = 8;

// Rows [first, last) of out (·, n) [+]= sum over k < K of the outer product of a[k] and b[k], values of which one lies
// behind the other: for few terms, where what takes time is to read or write a matrix, from row to row here. add: to what
// is in out.
template <class T, int K>
FASTRNN_NOINLINE void outer_rows(int64_t first, int64_t last, const T* const* a, const T* const* b, int64_t n, T* out,
                                 bool add) {
  using V = Vec<T>;
  constexpr int L = kLanes<T>;
  constexpr int R = kVectorRegisters == 32 || K <= 6 ? 2 : 1;  // rows at once: all their factors are held
  const auto rows = [&](int64_t row, auto count) __attribute__((always_inline)) {
    constexpr int M = decltype(count)::value;
    V x[M][K];
    for (int r = 0; r < M; ++r)
      for (int k = 0; k < K; ++k) x[r][k] = broadcast(a[k][row + r]);
    const auto columns = [&](int64_t j, int64_t left) __attribute__((always_inline)) {
      V sum[M] = {};
      FASTRNN_UNROLL
      for (int k = 0; k < K; ++k) {
        const V y = load_lanes<T>(b[k] + j, kNative<T>, left);
        FASTRNN_UNROLL
        for (int r = 0; r < M; ++r) sum[r] = multiply_add<T>(sum[r], x[r][k], y);
      }
      FASTRNN_UNROLL
      for (int r = 0; r < M; ++r) {
        T* to = out + (row + r) * n + j;
        if (add) sum[r] += load_lanes<T>(to, kNative<T>, left);
        store_lanes<T>(to, sum[r], kNative<T>, left);
      }
    };
    int64_t j = 0;
    for (; j + L <= n; j += L) columns(j, L);
    if (j < n) columns(j, n - j);
  };
  for (; first + R <= last; first += R) rows(first, std::integral_constant<int, R>{});
  for (; first < last; ++first) rows(first, std::integral_constant<int, 1>{});
}

template <class T, int K = kFewTerms>
inline void outer_product(int64_t terms, int64_t first, int64_t last, const T* const* a, const T* const* b, int64_t n,
                          T* out, bool add = false) {
  if constexpr (K > 1)
    if (terms < K) return outer_product<T, K - 1>(terms, first, last, a, b, n, out, add);
  outer_rows<T, K>(first, last, a, b, n, out, add);
}

// out(p) (rows, 2L) [+]= a (rows, K; columns adjacent) * columns [2L p, 2L (p + 1)) of a matrix as it lies, its rows
// `pitch` apart, for panels [first, last): for few rows, where to pack them would cost more. add: to what is in out.
// Some rows of the matrix meet all panels before the next ones do: a panel alone would go down a column, to another page
// of memory at each row.
template <class T, class Out>
inline void matrix_product_in_place(int64_t first, int64_t last, int64_t rows, int64_t K, const T* a,
                                    int64_t row_stride, const T* matrix, int64_t pitch, bool far, bool add, Out&& out,
                                    int64_t out_stride) {
  constexpr int64_t W2 = 2 * kLanes<T>;
  if (first >= last) return;
  // one row whose panels lie side by side in the result, too
  if (rows == 1 && (last - first == 1 || out(first + 1) == out(first) + W2)) {
    for (int64_t k = 0; k < K; k += kFewTerms) {
      const int64_t terms = std::min(kFewTerms, K - k);
      const T *values[kFewTerms], *lines[kFewTerms];
      for (int64_t i = 0; i < terms; ++i) values[i] = a + k + i, lines[i] = matrix + (k + i) * pitch + first * W2;
      outer_product(terms, 0, 1, values, lines, (last - first) * W2, out(first), add || k);
    }
    return;
  }
  constexpr int64_t most = 64;  // rows of the matrix: as many pages as a processor finds at once
  for_parts(K, (K + most - 1) / most, [&](int64_t k, int64_t depth) {
    for (int64_t p = first; p < last; ++p)
      for_parts(rows, (rows + kTileRows<2> - 1) / kTileRows<2>, [&](int64_t r, int64_t m) {
        const auto run = r || !far ? tile<T, 2, Panel::in_matrix> : tile<T, 2, Panel::in_matrix_ahead>;
        T* o = out(p) + r * out_stride;
        run(int(m), depth, a + r * row_stride + k, row_stride, 1, matrix + k * pitch + p * 2 * kLanes<T>,
            add || k ? o : nullptr, out_stride, o, out_stride, Ahead{}, pitch);
      });
  });
}

// Lanes [row][unit], R rows: the dot products of rows of a, K values each, with L / R rows of w. AskAhead: for the L / R
// rows of w that stand in the table after these.
template <class T, int R, bool AskAhead>
FASTRNN_INLINE Vec<T> dot_products(int64_t K, const T* a, int64_t row_stride, const void* const* w) {
  using V = Vec<T>;
  constexpr int L = kLanes<T>, U = L / R, values = kPairs ? 2 * L : L;
  V sums[L] = {};
  const auto add = [&](int64_t k, int64_t left) __attribute__((always_inline)) {
    V x[R];
    FASTRNN_UNROLL
    for (int r = 0; r < R; ++r) x[r] = load_words<T>(at(a + r * row_stride, kOperand<T>, k), kOperand<T>, left);
    FASTRNN_UNROLL
    for (int u = 0; u < U; ++u) {
      if constexpr (AskAhead) __builtin_prefetch(at(w[U + u], kOperand<T>, k), 0, 2);
      const V wu = load_words<T>(at(w[u], kOperand<T>, k), kOperand<T>, left);
      FASTRNN_UNROLL
      for (int r = 0; r < R; ++r) sums[r * U + u] = multiply_add<T>(sums[r * U + u], x[r], wu);
    }
  };
  int64_t k = 0;
  for (; k + values <= K; k += values) add(k, values);
  if (k < K) add(k, K - k);
  return add_across<T>(sums);
}

// Lanes [unit]: the dot products of one row, K values, with n rows of w, which stand behind one another; 0 in lanes above
// n. Q of them at a time.
template <class T, int Q, bool AskAhead>
FASTRNN_NOINLINE Vec<T> dot_products_of_row(int64_t K, const T* a, const void* w, int64_t n) {
  using V = Vec<T>;
  constexpr int L = kLanes<T>, values = kPairs ? 2 * L : L, chains = 4 / Q;
  static_assert(L % Q == 0);
  V sums[L];
  FASTRNN_UNROLL
  for (int l = 0; l < L; l += Q) {
    const void* rows[Q];
    FASTRNN_UNROLL
    for (int q = 0; q < Q; ++q) {
      rows[q] = w;
      if (l + q + 1 < n) w = at(w, kOperand<T>, K);  // one that is not there reads the last one
    }
    V sum[Q][chains] = {};
    const auto add = [&](int64_t k, int64_t left, int chain) __attribute__((always_inline)) {
      const V x = load_words<T>(at(a, kOperand<T>, k), kOperand<T>, left);
      FASTRNN_UNROLL
      for (int q = 0; q < Q; ++q) {
        const void* row = at(rows[q], kOperand<T>, k);
        if constexpr (AskAhead) __builtin_prefetch(static_cast<const char*>(row) + 2 * kBytesAhead);
        sum[q][chain] = multiply_add<T>(sum[q][chain], x, load_words<T>(row, kOperand<T>, left));
      }
    };
    int64_t k = 0;
    for (; k + chains * values <= K; k += chains * values) {
      FASTRNN_UNROLL
      for (int c = 0; c < chains; ++c) add(k + c * values, values, c);
    }
    if constexpr (chains > 1)
      for (; k + values <= K; k += values) add(k, values, 0);
    if (k < K) add(k, K - k, chains > 1 ? 1 : 0);
    FASTRNN_UNROLL
    for (int q = 0; q < Q; ++q) {
      sums[l + q] = sum[q][0];
      FASTRNN_UNROLL
      for (int c = 1; c < chains; ++c) sums[l + q] += sum[q][c];
    }
  }
  const V products = add_across<T>(sums);
  if (n >= L) return products;
  T lanes[L];
  store(lanes, products);
  return load_part(lanes, n);
}

// The same, as suits where w comes from. Beyond the second-level cache a processor fetches a single stream soonest; from
// there, several rows at once load a less often.
template <class T>
FASTRNN_INLINE Vec<T> dot_products_of_row(int64_t K, const T* a, const void* w, int64_t n, bool far) {
  constexpr int most = kLanes<T> < 4 ? kLanes<T> : 4;
  if (machine().asks_ahead) return dot_products_of_row<T, 1, true>(K, a, w, n);
  return far ? dot_products_of_row<T, 1, false>(K, a, w, n) : dot_products_of_row<T, most, false>(K, a, w, n);
}

// Rows [first, last), R by R, of one vector of columns of the product below: out and bias at that vector, rows of out
// `width` apart; w: the rows of weights of its lanes, of which n are there, and where ahead is true those after them.
template <class T, int R>
FASTRNN_NOINLINE void unpacked_rows(int64_t first, int64_t last, int64_t K, const T* a, int64_t row_stride,
                                    const void* const* w, int64_t n, const T* bias, T* out, int64_t width, bool ahead) {
  constexpr int L = kLanes<T>, U = L / R;
  T given[L];  // bias: not known to lie apart from out
  store(given, load(bias));
  for (int u = 0; u < L; u += U)
    for (int64_t r = first; r < last; r += R) {
      T sums[L];  // [row][unit]
      store(sums, ahead && r == first ? dot_products<T, R, true>(K, a + r * row_stride, row_stride, w + u)
                                      : dot_products<T, R, false>(K, a + r * row_stride, row_stride, w + u));
      for (int i = 0; i < R; ++i)
        for (int l = 0; l < U; ++l) out[(r + i) * width + u + l] = sums[i * U + l] + given[u + l];
    }
  for (int64_t r = first; r < last && n < L; ++r) std::copy(given + n, given + L, out + r * width + n);
}

// out (rows, NV vectors) = bias + a (rows, K values) * w^T, w (columns, K) row-major: panel_product (tile.h) with weights
// as they lie, for a call of few rows, where to pack them would cost more than to multiply by them. Rows go four by
// four, so that each load serves four products; one beside others as those, so that its sums are as theirs.
// gate_stride: rows of w from one vector of the panel to the next; n: how many lanes of a vector are there; the others
// become bias alone, and w is not read for them. far: w comes from beyond the second-level cache, where a processor does
// not fetch rows of a page each by itself soon enough.
template <class T, int NV>
inline void unpacked_product(int64_t rows, int64_t K, const T* a, int64_t row_stride, const void* w,
                             int64_t gate_stride, const int64_t (&n)[NV], const T* bias, T* out, bool far) {
  constexpr int L = kLanes<T>;
  constexpr int64_t width = NV * L;
  for (int j = 0; j < NV; ++j, bias += L, out += L) {
    if (n[j] <= 0) {
      for (int64_t r = 0; r < rows; ++r) store(out + r * width, load(bias));
      continue;
    }
    const void* const own = at(w, kOperand<T>, j * gate_stride * K);
    if (rows == 1) {
      store(out, dot_products_of_row(K, a, own, n[j], far) + load(bias));
      continue;
    }
    const void* lanes[2 * L];  // and if far, the next vector's; one that is not there reads the first one
    for (int l = 0; l < L; ++l) lanes[l] = at(own, kOperand<T>, (l < n[j] ? l : 0) * K);
    if (far) {
      const int next = j + 1 < NV && n[j + 1] > 0 ? j + 1 : j;
      for (int l = 0; l < L; ++l) lanes[L + l] = at(w, kOperand<T>, (next * gate_stride + (l < n[next] ? l : 0)) * K);
    }
    int64_t done = 0;
    if constexpr (L >= 4) {
      const int64_t fours = rows / 4 * 4;
      if (fours) unpacked_rows<T, 4>(done, fours, K, a, row_stride, lanes, n[j], bias, out, width, far);
      done = fours;
    }
    const int64_t twos = rows / 2 * 2;
    if (done < twos) unpacked_rows<T, 2>(done, twos, K, a, row_stride, lanes, n[j], bias, out, width, far && !done);
    if (twos < rows) unpacked_rows<T, 1>(twos, rows, K, a, row_stride, lanes, n[j], bias, out, width, false);
  }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
