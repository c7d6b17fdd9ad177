// SIMD vectors and storage types. The only file that knows the ISA, and all it knows is the vector width and the number
// of vector registers: the rest is GCC/clang vector extensions, so SSE2, AVX2, AVX-512 and NEON share every line.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "../problem.h"

#ifndef FASTRNN_ISA
#error "compile with -DFASTRNN_ISA=<name>: each ISA gets a namespace of its own"
#endif

#ifndef FASTRNN_VECTOR_BYTES
#if defined(__AVX512F__)
#define FASTRNN_VECTOR_BYTES 64
#elif defined(__AVX__)
#define FASTRNN_VECTOR_BYTES 32
#else
#define FASTRNN_VECTOR_BYTES 16
#endif
#endif

#if defined(__AVX512F__) && FASTRNN_VECTOR_BYTES == 64
#define FASTRNN_MASKS  // a part of a vector is loaded and stored by mask
#endif

#define FASTRNN_INLINE inline __attribute__((always_inline))
#define FASTRNN_NOINLINE __attribute__((noinline))
#if defined(__clang__)
#define FASTRNN_UNROLL _Pragma("unroll")
#else
#define FASTRNN_UNROLL _Pragma("GCC unroll 32")
#endif

namespace fastrnn {
inline namespace FASTRNN_ISA {

constexpr int kVectorBytes = FASTRNN_VECTOR_BYTES;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kVectorRegisters = 32;
#else
constexpr int kVectorRegisters = 16;
#endif

template <class T>
struct Simd;
template <>
struct Simd<float> {
  typedef float V __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
  typedef uint32_t U __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
};
template <>
struct Simd<double> {
  typedef double V __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
  typedef uint64_t U __attribute__((vector_size(FASTRNN_VECTOR_BYTES)));
};

template <class T>
using Vec = typename Simd<T>::V;
template <class T>
constexpr int kLanes = kVectorBytes / int(sizeof(T));

template <class T>
FASTRNN_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
FASTRNN_INLINE void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof v);
}
template <class T>
FASTRNN_INLINE Vec<T> broadcast(T x) {
  return x - Vec<T>{};  // x - 0 is x, NaN and -0 included
}

template <class To, class From>
FASTRNN_INLINE To bit_cast(From x) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}

// ---- storage types: bf16 and fp16 are kept in memory only; arithmetic is fp32 --------------------------------------
FASTRNN_INLINE float from_bf16(uint16_t h) { return bit_cast<float>(uint32_t(h) << 16); }

FASTRNN_INLINE uint16_t to_bf16(float f) {  // to nearest, ties to even
  const uint32_t u = bit_cast<uint32_t>(f);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return uint16_t(f != f ? 0x7fc0u | (u >> 16) : rounded);
}

FASTRNN_INLINE float from_f16(uint16_t h) {
  const uint32_t magnitude = uint32_t(h & 0x7fffu) << 13;
  // rebias the exponent by a multiplication, which also normalises fp16's subnormals
  const float scaled = bit_cast<float>(magnitude) * bit_cast<float>(uint32_t(0x77800000u));
  const uint32_t finite = bit_cast<uint32_t>(scaled), special = magnitude | 0x7f800000u;
  return bit_cast<float>(((h & 0x7c00u) == 0x7c00u ? special : finite) | (uint32_t(h & 0x8000u) << 16));
}

FASTRNN_INLINE uint16_t to_f16(float f) {  // to nearest, ties to even
  const uint32_t u = bit_cast<uint32_t>(f), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
  const uint32_t normal = (a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13;
  // below 2^-14 the result is subnormal: adding 0.5 aligns the bits and rounds in one step
  const uint32_t subnormal = bit_cast<uint32_t>(bit_cast<float>(a) + 0.5f) - 0x3f000000u;
  uint32_t r = a < 0x38800000u ? subnormal : normal;
  r = a >= 0x477ff000u ? 0x7c00u : r;                        // rounds past 65504: infinity
  r = a > 0x7f800000u ? 0x7e00u | ((a >> 13) & 0x3ffu) : r;  // NaN
  return uint16_t(r | sign);
}

// The storage type whose values are the arithmetic type itself: no conversion.
template <class T>
constexpr DType kNative = sizeof(T) == 8 ? DType::f64 : DType::f32;

FASTRNN_INLINE const void* at(const void* base, DType d, int64_t i) {
  return static_cast<const char*>(base) + i * size_of(d);
}
FASTRNN_INLINE void* at(void* base, DType d, int64_t i) { return static_cast<char*>(base) + i * size_of(d); }

// dst[0..n) = src[0..n), from storage type d
template <class T>
inline void load_row(T* dst, const void* src, DType d, int64_t n) {
  if (d == kNative<T>) {
    std::memcpy(dst, src, size_t(n) * sizeof(T));
  } else {
    const uint16_t* s = static_cast<const uint16_t*>(src);
    if (d == DType::bf16)
      for (int64_t i = 0; i < n; ++i) dst[i] = T(from_bf16(s[i]));
    else
      for (int64_t i = 0; i < n; ++i) dst[i] = T(from_f16(s[i]));
  }
}

// dst[0..n) = src[0..n), to storage type d
template <class T>
inline void store_row(void* dst, const T* src, DType d, int64_t n) {
  if (d == kNative<T>) {
    std::memcpy(dst, src, size_t(n) * sizeof(T));
  } else {
    uint16_t* s = static_cast<uint16_t*>(dst);
    if (d == DType::bf16)
      for (int64_t i = 0; i < n; ++i) s[i] = to_bf16(float(src[i]));
    else
      for (int64_t i = 0; i < n; ++i) s[i] = to_f16(float(src[i]));
  }
}

// The first n < kLanes<T> lanes of a vector; load_part makes the others zero, store_part leaves their memory alone.
template <class T>
FASTRNN_INLINE Vec<T> load_part(const T* p, int64_t n) {
#if defined(FASTRNN_MASKS)
  if constexpr (sizeof(T) == 4)
    return Vec<T>(_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p));
  else
    return Vec<T>(_mm512_maskz_loadu_pd(__mmask8((1u << n) - 1), p));
#else
  Vec<T> v{};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
#endif
}
template <class T>
FASTRNN_INLINE void store_part(T* p, Vec<T> v, int64_t n) {
#if defined(FASTRNN_MASKS)
  if constexpr (sizeof(T) == 4)
    _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), __m512(v));
  else
    _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1), __m512d(v));
#else
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
#endif
}

// One vector in storage type d of which the first n lanes are in memory; the others are zero / stay unwritten.
template <class T>
FASTRNN_INLINE Vec<T> load_lanes(const void* src, DType d, int64_t n) {
  if (d == kNative<T>) {
    const T* p = static_cast<const T*>(src);
    return n >= kLanes<T> ? load(p) : load_part(p, n);
  }
  T lanes[kLanes<T>] = {};
  load_row(lanes, src, d, n < kLanes<T> ? n : kLanes<T>);
  return load(lanes);
}
template <class T>
FASTRNN_INLINE void store_lanes(void* dst, Vec<T> v, DType d, int64_t n) {
  if (d == kNative<T>) {
    T* p = static_cast<T*>(dst);
    return n >= kLanes<T> ? store(p, v) : store_part(p, v, n);
  }
  T lanes[kLanes<T>];
  store(lanes, v);
  store_row(dst, lanes, d, n < kLanes<T> ? n : kLanes<T>);
}

// The smaller / larger of x and a bound; a NaN in x stays. (The vector form of x < b ? x : b costs a mask more.)
template <class T>
FASTRNN_INLINE Vec<T> at_most(Vec<T> x, T bound) {
#if defined(FASTRNN_MASKS)
  if constexpr (sizeof(T) == 4) return Vec<T>(_mm512_maskz_min_ps(0xffff, __m512(broadcast(bound)), __m512(x)));
#endif
  return x > bound ? broadcast(bound) : x;
}
template <class T>
FASTRNN_INLINE Vec<T> at_least(Vec<T> x, T bound) {
#if defined(FASTRNN_MASKS)
  if constexpr (sizeof(T) == 4) return Vec<T>(_mm512_maskz_max_ps(0xffff, __m512(broadcast(bound)), __m512(x)));
#endif
  return x < bound ? broadcast(bound) : x;
}

// a / d for finite a and d, d neither tiny nor huge, to about half a unit in the last place and a NaN for a NaN: a quarter of
// the time of a 64-byte division.
template <class T>
FASTRNN_INLINE Vec<T> quotient(Vec<T> a, Vec<T> d) {
#if defined(FASTRNN_MASKS)
  if constexpr (sizeof(T) == 4) {
    const Vec<T> guess = Vec<T>(_mm512_maskz_rcp14_ps(0xffff, __m512(d))), q = a * guess;
    return q + guess * (a - d * q);
  }
#endif
  return a / d;
}

// ---- layout ----------------------------------------------------------------------------------------------------------
// Rows that a tile reads by broadcast, several at a time: at a stride of a multiple of 2 KiB they would all fall into one or
// two sets of the first-level cache and push each other out. An odd number of cache lines spreads them.
template <class T>
constexpr int64_t spread_stride(int64_t columns) {
  return ((columns * int64_t(sizeof(T)) + 63) / 64 | 1) * 64 / int64_t(sizeof(T));
}
template <class T>
constexpr bool collides(int64_t stride) {
  return stride * int64_t(sizeof(T)) % 2048 == 0;
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
