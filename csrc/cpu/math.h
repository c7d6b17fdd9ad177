// The arithmetic a cell sees on the CPU: SIMD vectors with exp, tanh and sigmoid.
// fp32: polynomials of our own fit (relative error below 2e-7, tanh accurate near 0 too), shorter ones where the data
// are bf16 (below 3e-5; 1 - sigmoid as well, because what a cell forgets adds up over its steps in fp32). fp64: libm, lane
// by lane.
#pragma once
#include <cmath>

#include "operands.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

// Divides: by division, which some processors do as fast as what takes its place (machine.h).
template <class Scalar, bool Divides = false>
struct Math {
  using T = Scalar;
  using V = Vec<T>;

  static FASTRNN_INLINE V sigmoid(V x) {
    if constexpr (sizeof(T) == 8) {
      for (int l = 0; l < kLanes<T>; ++l) x[l] = 1 / (1 + std::exp(-x[l]));
      return x;
    } else {
      // far out e^{-x} needs a bound only; the form of the comparisons lets NaN through
      V m, scale;
      expm1_parts<-1>(at_least<T>(at_most<T>(x, T(87)), T(-88)), m, scale);
      return quotient<T, Divides>(broadcast(T(1)), scale * m + (scale + T(1)));
    }
  }

  // tanh x = t / (t + 2) with t = e^{2x} - 1, which loses no digits near 0
  static FASTRNN_INLINE V tanh(V x) {
    if constexpr (sizeof(T) == 8) {
      for (int l = 0; l < kLanes<T>; ++l) x[l] = std::tanh(x[l]);
      return x;
    } else {
      V m, scale;
      expm1_parts<2>(at_least<T>(at_most<T>(x, T(9.2f)), T(-9.2f)), m, scale);  // from 9.2 on tanh is 1 in fp32
      const V t = scale * m + (scale - T(1));
      return quotient<T, Divides>(t, t + T(2));
    }
  }

  // comparisons written so that NaN stays NaN, as torch's relu and its gradient do
  static FASTRNN_INLINE V relu(V x) { return x < T(0) ? V{} : x; }
  static FASTRNN_INLINE V relu_grad(V h, V dh) { return h <= T(0) ? V{} : dh; }

 private:
  // e^{Sx} = scale * (1 + m), scale = 2^n, m = e^{Sr} - 1, |Sr| <= ln2 / 2, for |Sx| < 89. m = r (S + r q(r)).
  template <int S>
  static FASTRNN_INLINE void expm1_parts(V x, V& m, V& scale) {
    using U = typename Simd<T>::U;
    constexpr T s = S, s2 = s * s, s3 = s2 * s;
    const T magic = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer, left in the low bits
    const V shifted = x * T(s * 1.44269504f) + magic;
    const V n = shifted - magic;
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    // ln 2 in one part: it is off by 2e-9 n, and where n is large neither sigmoid nor tanh depends on x any more
    const V r = x - n * T(0.693147182f / s);
#else
    const V r = (x - n * T(0.693145752f / s)) - n * T(1.42860677e-6f / s);  // the first product is exact
#endif
    V q;
    if constexpr (kPairs) {
      q = r * T(s2 * s2 * 4.149040e-2f) + T(s3 * 1.675162e-1f);
      q = q * r + T(s2 * 5.000234e-1f);
    } else {
      q = r * T(s3 * s3 * 1.388251556e-3f) + T(s3 * s2 * 8.366547179e-3f);
      q = q * r + T(s2 * s2 * 4.166720072e-2f);
      q = q * r + T(s3 * 1.666654342e-1f);
      q = q * r + T(s2 * 4.999999815e-1f);
    }
    m = r * (q * r + s);
    scale = bit_cast<V>((bit_cast<U>(shifted) + 127u) << 23);
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
