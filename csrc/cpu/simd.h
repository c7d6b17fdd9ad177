// SIMD vectors. The only file but amx.h that computes by what an ISA has, and most of what it knows is the vector width
// and the number of vector registers: the rest is GCC/clang vector extensions, so SSE2, AVX2, AVX-512 and NEON share
// nearly every line.
#pragma once
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX__)
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

// A unit compiled with -DFASTRNN_PAIRS multiplies bf16 numbers two at a time: see operands.h.
#if defined(FASTRNN_PAIRS) && defined(__AVX512BF16__) && FASTRNN_VECTOR_BYTES == 64
#define FASTRNN_DOTS
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

template <class To, class From>
FASTRNN_INLINE To bit_cast(From x) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}

// store, but past the caches, to a multiple of 64 bytes; visible to others after stores_seen.
#if defined(FASTRNN_MASKS)
constexpr bool kStreams = true;  // a store is a whole line
template <class T>
FASTRNN_INLINE void store_past_caches(T* p, Vec<T> v) {
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), bit_cast<__m512i>(v));
}
inline void stores_seen() { _mm_sfence(); }
#else
constexpr bool kStreams = false;
template <class T>
FASTRNN_INLINE void store_past_caches(T* p, Vec<T> v) {
  store(p, v);
}
inline void stores_seen() {}
#endif

template <class T>
FASTRNN_INLINE Vec<T> broadcast(T x) {
  return x - Vec<T>{};  // x - 0 is x, NaN and -0 included
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

// The same for 16-bit values, which stand in the low halves of a vector of 32-bit lanes; n may be the vector's or more.
using Lanes32 = Simd<float>::U;
typedef uint16_t Lanes16 __attribute__((vector_size(FASTRNN_VECTOR_BYTES / 2)));
FASTRNN_INLINE Lanes32 load_halves(const void* src, int64_t n) {
  constexpr int L = kLanes<float>;
#if defined(FASTRNN_MASKS)
  if (n >= L) return Lanes32(_mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256(static_cast<const __m256i*>(src))));
  return Lanes32(_mm512_maskz_cvtepu16_epi32(0xffff, _mm256_maskz_loadu_epi16(__mmask16((1u << n) - 1), src)));
#else
  Lanes16 halves{};
  n < L ? std::memcpy(&halves, src, size_t(n) * 2) : std::memcpy(&halves, src, sizeof halves);
  return __builtin_convertvector(halves, Lanes32);
#endif
}
FASTRNN_INLINE Lanes16 low_halves(Lanes32 v) {
#if defined(FASTRNN_MASKS)
  return Lanes16(_mm512_maskz_cvtepi32_epi16(0xffff, __m512i(v)));
#else
  return __builtin_convertvector(v, Lanes16);
#endif
}
FASTRNN_INLINE void store_halves(void* dst, Lanes16 halves, int64_t n) {
  constexpr int L = kLanes<float>;
#if defined(FASTRNN_MASKS)
  if (n >= L) return _mm256_storeu_si256(static_cast<__m256i*>(dst), __m256i(halves));
  _mm256_mask_storeu_epi16(dst, __mmask16((1u << n) - 1), __m256i(halves));
#else
  n < L ? std::memcpy(dst, &halves, size_t(n) * 2) : std::memcpy(dst, &halves, sizeof halves);
#endif
}

// 16-bit values as they lie, two a lane of T, of which n are there; the others become zeros.
template <class T>
FASTRNN_INLINE Vec<T> load_pairs(const void* src, int64_t n) {
  Vec<T> v{};
  if (n >= 2 * kLanes<T>) {
    std::memcpy(&v, src, sizeof v);
    return v;
  }
#if defined(FASTRNN_MASKS)
  return Vec<T>(_mm512_castsi512_ps(_mm512_maskz_loadu_epi16(__mmask32((uint64_t(1) << n) - 1), src)));
#else
  std::memcpy(&v, src, size_t(n) * 2);
  return v;
#endif
}

// What a processor with dot products of bf16 pairs does in one instruction; where kDots is false, nobody calls them.
#if defined(FASTRNN_DOTS)
constexpr bool kDots = true;
// to bf16; numbers below fp32's normal ones become zero
FASTRNN_INLINE Lanes16 rounded_by_dots(Vec<float> v) { return Lanes16(_mm512_cvtneps_pbh(__m512(v))); }
// sum + a_low b_low + a_high b_high
template <class T>
FASTRNN_INLINE Vec<T> dot_pairs(Vec<T> sum, Vec<T> a, Vec<T> b) {
  return Vec<T>(_mm512_dpbf16_ps(__m512(sum), bit_cast<__m512bh>(a), bit_cast<__m512bh>(b)));
}
#else
constexpr bool kDots = false;
Lanes16 rounded_by_dots(Vec<float> v);
template <class T>
Vec<T> dot_pairs(Vec<T> sum, Vec<T> a, Vec<T> b);
#endif

// As many neighbours as 16 bytes hold, over and over; and number I of them in all lanes. One load in place of one a
// number, which counts where a product waits for loads.
template <class T>
constexpr int kQuad = 16 / int(sizeof(T));
template <class T>
FASTRNN_INLINE Vec<T> load_quads(const T* p) {
#if defined(__AVX512F__) && FASTRNN_VECTOR_BYTES == 64
  return bit_cast<Vec<T>>(_mm512_maskz_broadcast_f32x4(__mmask16(-1), _mm_loadu_ps(reinterpret_cast<const float*>(p))));
#elif defined(__AVX__) && FASTRNN_VECTOR_BYTES == 32
  return bit_cast<Vec<T>>(_mm256_broadcast_ps(reinterpret_cast<const __m128*>(p)));
#else
  Vec<T> v;
  for (int i = 0; i < kVectorBytes; i += 16) std::memcpy(reinterpret_cast<char*>(&v) + i, p, 16);
  return v;
#endif
}
template <class T, int I, size_t... Lane>
FASTRNN_INLINE Vec<T> word_of_quads(Vec<T> quads, std::index_sequence<Lane...>) {
  constexpr int Q = kQuad<T>;
#if defined(__clang__)
  return __builtin_shufflevector(quads, quads, int(Lane / Q * Q + I)...);
#else
  return __builtin_shuffle(quads, typename Simd<T>::U{(Lane / Q * Q + I)...});
#endif
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

#if defined(FASTRNN_MASKS)
constexpr bool kApproximates = true;  // a quotient can be had without a division
#else
constexpr bool kApproximates = false;
#endif

// a / d for finite a and d, d neither tiny nor huge, to about half a unit in the last place and a NaN for a NaN. Without
// a division, unless Divides: in a quarter of the time of a 64-byte one where the processor does these in halves.
template <class T, bool Divides>
FASTRNN_INLINE Vec<T> quotient(Vec<T> a, Vec<T> d) {
#if defined(FASTRNN_MASKS)
  if constexpr (sizeof(T) == 4 && !Divides) {
    const Vec<T> guess = Vec<T>(_mm512_maskz_rcp14_ps(0xffff, __m512(d))), q = a * guess;
    return q + guess * (a - d * q);
  }
#endif
  return a / d;
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
