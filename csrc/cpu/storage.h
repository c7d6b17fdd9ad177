// Storage types: bf16 and fp16 are kept in memory only; arithmetic is fp32, and of fp64 fp64.
#pragma once
#include "simd.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

// Written for a scalar or a whole vector: F is float or Vec<float>, U the unsigned integers of that size, whose low
// halves hold the 16 bits.
template <class F, class U>
FASTRNN_INLINE F from_bf16(U h) {
  return bit_cast<F>(h << 16);
}

template <class F, class U>
FASTRNN_INLINE U to_bf16(F f) {  // to nearest, ties to even
  const U u = bit_cast<U>(f), rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return f != f ? ((u >> 16) | 0x7fc0u) : rounded;
}

template <class F, class U>
FASTRNN_INLINE F from_f16(U h) {
  const U magnitude = (h & 0x7fffu) << 13, special = magnitude | 0x7f800000u;
  // rebias the exponent by a multiplication, which also normalises fp16's subnormals
  const U finite = bit_cast<U>(bit_cast<F>(magnitude) * bit_cast<float>(uint32_t(0x77800000u)));
  return bit_cast<F>(((h & 0x7c00u) == 0x7c00u ? special : finite) | ((h & 0x8000u) << 16));
}

template <class F, class U>
FASTRNN_INLINE U to_f16(F f) {  // to nearest, ties to even
  const U u = bit_cast<U>(f), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
  const U normal = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
  // below 2^-14 the result is subnormal: adding 0.5 aligns the bits and rounds in one step
  const U subnormal = bit_cast<U>(bit_cast<F>(a) + 0.5f) - 0x3f000000u, infinity = (a & 0u) | 0x7c00u;
  U r = a < 0x38800000u ? subnormal : normal;
  r = a >= 0x477ff000u ? infinity : r;                         // rounds past 65504
  r = a > 0x7f800000u ? (((a >> 13) & 0x3ffu) | 0x7e00u) : r;  // NaN
  return r | sign;
}

// The storage type whose values are the arithmetic type itself: no conversion.
template <class T>
constexpr DType kNative = sizeof(T) == 8 ? DType::f64 : DType::f32;

FASTRNN_INLINE const void* at(const void* base, DType d, int64_t i) {
  return static_cast<const char*>(base) + i * size_of(d);
}
FASTRNN_INLINE void* at(void* base, DType d, int64_t i) { return static_cast<char*>(base) + i * size_of(d); }

// One vector in storage type d of which the first n lanes are in memory; the others are zero / stay unwritten.
template <class T>
FASTRNN_INLINE Vec<T> load_lanes(const void* src, DType d, int64_t n) {
  if constexpr (sizeof(T) == 4)
    if (d != DType::f32) {
      const Lanes32 halves = load_halves(src, n);
      return d == DType::bf16 ? from_bf16<Vec<T>>(halves) : from_f16<Vec<T>>(halves);
    }
  const T* p = static_cast<const T*>(src);
  return n >= kLanes<T> ? load(p) : load_part(p, n);
}
template <class T>
FASTRNN_INLINE void store_lanes(void* dst, Vec<T> v, DType d, int64_t n) {
  if constexpr (sizeof(T) == 4)
    if (d != DType::f32) {
      if constexpr (kDots)
        if (d == DType::bf16) return store_halves(dst, rounded_by_dots(v), n);
      return store_halves(dst, low_halves(d == DType::bf16 ? to_bf16<Vec<T>, Lanes32>(v) : to_f16<Vec<T>, Lanes32>(v)),
                          n);
    }
  T* p = static_cast<T*>(dst);
  return n >= kLanes<T> ? store(p, v) : store_part(p, v, n);
}

// dst[0..n) = src[0..n), from storage type d
template <class T>
inline void load_row(T* dst, const void* src, DType d, int64_t n) {
  if (d == kNative<T>) {
    std::memcpy(dst, src, size_t(n) * sizeof(T));
    return;
  }
  for (int64_t i = 0; i < n; i += kLanes<T>)
    store_lanes<T>(dst + i, load_lanes<T>(at(src, d, i), d, n - i), kNative<T>, n - i);
}

// dst[0..n) = src[0..n), to storage type d
template <class T>
inline void store_row(void* dst, const T* src, DType d, int64_t n) {
  if (d == kNative<T>) {
    std::memcpy(dst, src, size_t(n) * sizeof(T));
    return;
  }
  for (int64_t i = 0; i < n; i += kLanes<T>)
    store_lanes<T>(at(dst, d, i), load_lanes<T>(src + i, kNative<T>, n - i), d, n - i);
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
