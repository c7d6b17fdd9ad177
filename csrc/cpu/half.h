// Products with weights kept as bf16, for inference with few rows, which is bound by reading the weights: half the
// bytes.
// Activations, sums and state stay in the arithmetic type; each weight was rounded once, when it was packed.
//
// A word of a panel holds two neighbours of a weight's row, k in the low half and k + 1 in the high one; the words of a
// panel stand as in pack.h: [block][word of k][gate][unit].
#pragma once
#include "blocks.h"
#include "tile.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

constexpr int64_t half_words(int64_t K) { return (K + 1) / 2; }

// out (MR, NV vectors) = bias + a (MR, K) * panel (half_words(K), NV vectors)
template <int NV, int MR>
FASTRNN_NOINLINE void half_tile(int64_t K, const float* a, int64_t row_stride, const uint32_t* panel, const float* bias,
                                float* out) {
  using V = Vec<float>;
  constexpr int L = kLanes<float>;
  constexpr int KU = MR * NV >= 8 ? 1 : MR * NV >= 3 ? 2 : 4;  // sums side by side hide the latency of few accumulators
  V acc[KU][MR][NV];
  FASTRNN_UNROLL
  for (int r = 0; r < MR; ++r) {
    FASTRNN_UNROLL
    for (int j = 0; j < NV; ++j) {
      acc[0][r][j] = load(bias + j * L);
      FASTRNN_UNROLL
      for (int u = 1; u < KU; ++u) acc[u][r][j] = V{};
    }
  }
  // value k of the rows, and k + 1 if the word has both
  const auto add = [&](int64_t k, int u, bool both) __attribute__((always_inline)) {
    FASTRNN_UNROLL
    for (int j = 0; j < NV; ++j) {
      Lanes32 word;
      std::memcpy(&word, panel + (k / 2 * NV + j) * L, sizeof word);
      const V low = bit_cast<V>(word << 16), high = bit_cast<V>(word & 0xffff0000u);
      FASTRNN_UNROLL
      for (int r = 0; r < MR; ++r) {
        acc[u][r][j] += broadcast(a[r * row_stride + k]) * low;
        if (both) acc[KU > 1 ? u + 1 : u][r][j] += broadcast(a[r * row_stride + k + 1]) * high;
      }
    }
  };
  int64_t k = 0;
  if constexpr (KU == 4)
    for (; k + 3 < K; k += 4) {
      add(k, 0, true);
      add(k + 2, 2, true);
    }
  for (; k + 1 < K; k += 2) add(k, 0, true);
  if (k < K) add(k, 0, false);
  FASTRNN_UNROLL
  for (int r = 0; r < MR; ++r) {
    FASTRNN_UNROLL
    for (int j = 0; j < NV; ++j) {
      V sum = acc[0][r][j];
      FASTRNN_UNROLL
      for (int u = 1; u < KU; ++u) sum += acc[u][r][j];
      store(out + (r * NV + j) * L, sum);
    }
  }
}

template <int NV, int MR = kTileRows<NV>>
inline void half_product(int64_t rows, int64_t K, const float* a, int64_t row_stride, const uint32_t* panel,
                         const float* bias, float* out) {
  for (; rows >= MR; rows -= MR, a += MR * row_stride, out += MR * NV * kLanes<float>)
    half_tile<NV, MR>(K, a, row_stride, panel, bias, out);
  if constexpr (MR > 1)
    if (rows) half_product<NV, MR / 2>(rows, K, a, row_stride, panel, bias, out);
}

// From so many rows on it is cheaper to expand a panel than to take its words apart for every few rows.
constexpr int64_t kExpandedRows = 32;

// out (K, vectors) = the numbers of a panel (half_words(K), vectors)
inline void expand_half(const uint32_t* panel, int vectors, int64_t K, float* out) {
  constexpr int L = kLanes<float>;
  for (int64_t k = 0; k < K; k += 2)
    for (int64_t j = 0; j < vectors * L; j += L) {
      Lanes32 word;
      std::memcpy(&word, panel + k / 2 * vectors * L + j, sizeof word);
      store(out + k * vectors * L + j, bit_cast<Vec<float>>(word << 16));
      if (k + 1 < K) store(out + (k + 1) * vectors * L + j, bit_cast<Vec<float>>(word & 0xffff0000u));
    }
}

// 32-bit words that one gate matrix of K columns takes.
template <class Cell>
inline int64_t half_size(int64_t H, int64_t K) {
  using B = Blocks<Cell, float>;
  return B::count(H) * half_words(K) * B::W;
}

// w (G*H, K), fp32, into panels
template <class Cell>
inline void pack_half(uint32_t* dst, const float* w, int64_t H, int64_t K) {
  using B = Blocks<Cell, float>;
  for (int64_t u = 0; u < B::count(H); ++u) {
    const auto b = B::at(u, H);
    uint32_t* panel = dst + u * half_words(K) * B::W;
    for (int64_t j = 0; j < b.width(); ++j) {
      const auto c = B::column(b, j);
      const float* row = c.unit < 0 ? nullptr : w + (c.gate * H + c.unit) * K;
      const auto bits = [&](int64_t k) { return row && k < K ? to_bf16<float, uint32_t>(row[k]) : 0u; };
      for (int64_t k = 0; k < K; k += 2) panel[k / 2 * b.width() + j] = bits(k) | bits(k + 1) << 16;
    }
  }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
