// The arithmetic a cell sees on the CPU: SIMD vectors with exp, tanh and sigmoid.
// fp32: polynomials of our own fit (relative error below 2e-7, tanh accurate near 0 too). fp64: libm, lane by lane.
#pragma once
#include <cmath>

#include "simd.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

template <class Scalar>
struct Math {
  using T = Scalar;
  using V = Vec<T>;

  static FASTRNN_INLINE V sigmoid(V x) {
    if constexpr (sizeof(T) == 8) {
      for (int l = 0; l < kLanes<T>; ++l) x[l] = 1 / (1 + std::exp(-x[l]));
      return x;
    } else {
      V e_minus_1, scale;
      expm1_parts(-x, e_minus_1, scale);
      return reciprocal<T>(T(1) + (scale * e_minus_1 + scale));
    }
  }

  // tanh x = t / (t + 2) with t = e^{2x} - 1, which loses no digits near 0
  static FASTRNN_INLINE V tanh(V x) {
    if constexpr (sizeof(T) == 8) {
      for (int l = 0; l < kLanes<T>; ++l) x[l] = std::tanh(x[l]);
      return x;
    } else {
      // from 9.2 on tanh is 1 in fp32; the form of the comparison lets NaN through
      x = x > T(9.2f) ? broadcast(T(9.2f)) : x;
      x = x < T(-9.2f) ? broadcast(T(-9.2f)) : x;
      V e_minus_1, scale;
      expm1_parts(x + x, e_minus_1, scale);
      const V t = scale * e_minus_1 + (scale - T(1));
      return t * reciprocal<T>(t + T(2));
    }
  }

  // comparisons written so that NaN stays NaN, as torch's relu and its gradient do
  static FASTRNN_INLINE V relu(V x) { return x < T(0) ? V{} : x; }
  static FASTRNN_INLINE V relu_grad(V h, V dh) { return h <= T(0) ? V{} : dh; }

 private:
  // e^x = scale * (1 + m), scale = 2^n, m = e^r - 1, |r| <= ln2 / 2
  static FASTRNN_INLINE void expm1_parts(V x, V& m, V& scale) {
    using U = typename Simd<T>::U;
    x = x > T(88.f) ? broadcast(T(88.f)) : x;
    x = x < T(-87.f) ? broadcast(T(-87.f)) : x;
    const T magic = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer, left in the low bits
    const V shifted = x * T(1.44269504f) + magic;
    const V n = shifted - magic;
    const V r = (x - n * T(0.693145752f)) - n * T(1.42860677e-6f);  // ln 2 in two parts
    V q = r * T(1.388251556e-3f) + T(8.366547179e-3f);
    q = q * r + T(4.166720072e-2f);
    q = q * r + T(1.666654342e-1f);
    q = q * r + T(4.999999815e-1f);
    m = r * r * q + r;
    scale = bit_cast<V>((bit_cast<U>(shifted) + 127u) << 23);
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
