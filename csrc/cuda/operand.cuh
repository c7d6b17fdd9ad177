// Operands of the recurrent product out = W h, in the order in which lanes load them.
//
// k is cut into blocks of 4 pieces of 16 bytes. Lane (n, j) = (lane / 4, lane % 4) holds piece j of row n, which for the
// matrix instructions are the words that it has to bring for two of them: the order of k within a block is then another
// than the manual's, but the same for both operands, and a sum does not mind. So one 16-byte load, without conflicts and
// without shuffles, serves each operand, and the same layout serves the types that have no matrix instruction.
//
//   W     [tile][k block][half][lane]     a half is 8 rows of W; the halves of a tile are its units gate by gate
//   h     [batch group of 8][k block][lane]
#pragma once
#include <cmath>

#include "device.cuh"

namespace fastrnn {
namespace cuda {

// The arithmetic a cell sees: the library's functions, right to the last digits.
template <class Scalar>
struct ExactMath {
  using T = Scalar;
  using V = Scalar;
  static FASTRNN_DEVICE V sigmoid(V x) {
    if constexpr (sizeof(T) == 8)
      return 1 / (1 + exp(-x));
    else
      return 1.f / (1.f + expf(-x));
  }
  static FASTRNN_DEVICE V tanh(V x) {
    if constexpr (sizeof(T) == 8)
      return ::tanh(x);
    else
      return ::tanhf(x);
  }
  static FASTRNN_DEVICE V relu(V x) { return x < T(0) ? T(0) : x; }
  static FASTRNN_DEVICE V relu_grad(V h, V dh) { return h <= T(0) ? T(0) : dh; }
};

// The same by the special function unit, in half the time, where the product's operands are rounded anyway. Relative
// errors of some 1e-6, against 5e-4 of TF32.
struct FastMath : ExactMath<float> {
  static FASTRNN_DEVICE float sigmoid(float x) { return fast_divide(1.f, 1.f + fast_exp(-x)); }
  static FASTRNN_DEVICE float tanh(float x) {
    const float t = fast_exp(-2.f * fabsf(x)), far = copysignf(fast_divide(1.f - t, 1.f + t), x), y = x * x;
    // 1 - t cancels near zero: the Taylor series there
    const float near = x + x * y * (-1.f / 3 + y * (2.f / 15 + y * (-17.f / 315 + y * (62.f / 2835))));
    return y < 0.0625f ? near : far;
  }
};

// One operand type: `Element` in the product, `Storage` of tensors, `Acc` of sums and of the cell, whose `Math` it is.
// multiply: out[half][column] += W of two halves times h of 8 rows of the batch, one k block.
template <class E>
struct Matrix {
  using Element = E;
  using Storage = E;
  using Acc = float;
  using Math = FastMath;
  static constexpr bool kMatrix = true;
};
struct Bf16 : Matrix<uint16_t> {
  static FASTRNN_DEVICE float load(uint16_t v) { return from_bf16(v); }
  static FASTRNN_DEVICE uint16_t store(float v) { return to_bf16(v); }
  static FASTRNN_DEVICE uint16_t element(float v) { return to_bf16(v); }
  static FASTRNN_DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma_bf16(c, a, b0, b1);
  }
};
struct F16 : Matrix<uint16_t> {
  static FASTRNN_DEVICE float load(uint16_t v) { return from_f16(v); }
  static FASTRNN_DEVICE uint16_t store(float v) { return to_f16(v); }
  static FASTRNN_DEVICE uint16_t element(float v) { return to_f16(v); }
  static FASTRNN_DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma_f16(c, a, b0, b1);
  }
};
struct Tf32 : Matrix<float> {
  static FASTRNN_DEVICE float load(float v) { return v; }
  static FASTRNN_DEVICE float store(float v) { return v; }
  static FASTRNN_DEVICE float element(float v) { return to_tf32(v); }
  static FASTRNN_DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    mma_tf32(c, a, b0, b1);
  }
};
template <class T>
struct Exact {
  using Element = T;
  using Storage = T;
  using Acc = T;
  using Math = ExactMath<T>;
  static constexpr bool kMatrix = false;
  static FASTRNN_DEVICE T load(T v) { return v; }
  static FASTRNN_DEVICE T store(T v) { return v; }
  static FASTRNN_DEVICE T element(T v) { return v; }
};

template <class Op>
struct Layout {
  using E = typename Op::Element;
  static constexpr int kPerPiece = 16 / int(sizeof(E));
  static constexpr int kBlock = 4 * kPerPiece;  // values of k in a block
  static FASTRNN_BOTH int blocks(int64_t K) { return int((K + kBlock - 1) / kBlock); }
  // where (n, k), n < 8, stands in a [k block][lane] group, in elements
  static FASTRNN_BOTH int64_t at(int n, int64_t k) {
    return ((k / kBlock) * 32 + n * 4 + k / kPerPiece % 4) * kPerPiece + k % kPerPiece;
  }
};

// A warp's lanes hold one value each of 8 units (lane / 4) in 4 rows (lane % 4). Gives each lane a whole piece of its
// row: for 16-bit elements that of all 8 units, for wider ones that of units (lane / 16) * 4 and the next three. Through
// kGather bytes of shared memory of this warp's own, which is sooner there than by shuffles.
template <class Op>
constexpr int kGather = 32 * int(sizeof(typename Op::Element));
template <class Op>
FASTRNN_DEVICE Piece gather_units(typename Op::Element v, unsigned char* memory) {
  const int lane = thread_index() % 32;
  reinterpret_cast<typename Op::Element*>(memory)[lane % 4 * 8 + lane / 4] = v;
  sync_warp();
  const Piece p = reinterpret_cast<const Piece*>(memory)[sizeof(v) == 2 ? lane % 4 : lane % 4 * 2 + lane / 16];
  sync_warp();
  return p;
}

// out[half][column]: unit `lane / 4` of the half, rows `lane % 4 * 2 + column` of the batch group.
template <class Op, int HALVES>
FASTRNN_DEVICE void multiply(typename Op::Acc (&out)[HALVES][2], const Piece (&w)[HALVES], const Piece& h) {
  static_assert(Op::kMatrix && HALVES % 2 == 0, "a matrix instruction takes two halves");
#pragma unroll
  for (int m = 0; m < HALVES; m += 2) {
    float c[4] = {out[m][0], out[m][1], out[m + 1][0], out[m + 1][1]};
    const uint32_t first[4] = {w[m].w[0], w[m + 1].w[0], w[m].w[1], w[m + 1].w[1]};
    const uint32_t second[4] = {w[m].w[2], w[m + 1].w[2], w[m].w[3], w[m + 1].w[3]};
    Op::mma(c, first, h.w[0], h.w[1]);
    Op::mma(c, second, h.w[2], h.w[3]);
    out[m][0] = c[0], out[m][1] = c[1], out[m + 1][0] = c[2], out[m + 1][1] = c[3];
  }
}

// The same for types without matrix instruction, straight from memory: w and h point to their k block.
template <class Op, int HALVES>
FASTRNN_DEVICE void multiply_exact(typename Op::Acc (&out)[HALVES][2], const Piece* w, const Piece* h, int lane) {
  using T = typename Op::Acc;
  constexpr int N = Layout<Op>::kPerPiece;
  union Values {
    Piece piece;
    T v[N];
  };
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    Values a, b[2];
    b[0].piece = load_piece(h + lane % 4 * 8 + j);
    b[1].piece = load_piece(h + lane % 4 * 8 + 4 + j);
#pragma unroll
    for (int m = 0; m < HALVES; ++m) {
      a.piece = w[m * 32 + (lane & ~3) + j];
#pragma unroll
      for (int i = 0; i < N; ++i) {
        out[m][0] += a.v[i] * b[0].v[i];
        out[m][1] += a.v[i] * b[1].v[i];
      }
    }
  }
}

}  // namespace cuda
}  // namespace fastrnn
