// SIMD vectors and storage types. The only file but amx.h that knows the ISA, and all it knows is the vector width and
// the number of vector registers: the rest is GCC/clang vector extensions, so SSE2, AVX2, AVX-512 and NEON share every
// line.
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

// A unit compiled with -DFASTRNN_PAIRS multiplies bf16 numbers two at a time: see 'operands' below.
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

// ---- storage types: bf16 and fp16 are kept in memory only; arithmetic is fp32 --------------------------------------
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
FASTRNN_INLINE void store_halves(void* dst, Lanes32 v, int64_t n) {
  constexpr int L = kLanes<float>;
#if defined(FASTRNN_MASKS)
  const __m256i halves = _mm512_maskz_cvtepi32_epi16(0xffff, __m512i(v));
  if (n >= L) return _mm256_storeu_si256(static_cast<__m256i*>(dst), halves);
  _mm256_mask_storeu_epi16(dst, __mmask16((1u << n) - 1), halves);
#else
  const Lanes16 halves = __builtin_convertvector(v, Lanes16);
  n < L ? std::memcpy(dst, &halves, size_t(n) * 2) : std::memcpy(dst, &halves, sizeof halves);
#endif
}

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
#if defined(FASTRNN_DOTS)
      if (d == DType::bf16) {  // one instruction in place of eight; numbers below fp32's normal ones become zero
        const __m256i halves = __m256i(_mm512_cvtneps_pbh(__m512(v)));
        if (n >= kLanes<T>) return _mm256_storeu_si256(static_cast<__m256i*>(dst), halves);
        return _mm256_mask_storeu_epi16(dst, __mmask16((1u << n) - 1), halves);
      }
#endif
      return store_halves(dst, d == DType::bf16 ? to_bf16<Vec<T>, Lanes32>(v) : to_f16<Vec<T>, Lanes32>(v), n);
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

// ---- operands --------------------------------------------------------------------------------------------------------
// What products read: words of 32 bits (64 in fp64) in arrays of T. A word is one number or, in a unit for bf16 data,
// two neighbours of a row, or of a column where the product sums over rows: bf16 in both cases, the first in the low
// half. Sums are fp32 either way. A pair at the end of an odd row has a zero in its high half.
#if defined(FASTRNN_PAIRS)
constexpr bool kPairs = true;
#else
constexpr bool kPairs = false;
#endif
template <class T>
constexpr DType kOperand = kPairs ? DType::bf16 : kNative<T>;
constexpr int64_t words(int64_t values) { return kPairs ? (values + 1) / 2 : values; }

// The words of a panel along the sum. Matrix tiles (amx.h) take 16 at a time: panels end in zeros then, and so must the
// rows that are multiplied by them, because a NaN times zero is no zero.
#if defined(FASTRNN_AMX)
constexpr bool kMatrixTiles = true;
#else
constexpr bool kMatrixTiles = false;
#endif
constexpr int64_t panel_words(int64_t values) { return kMatrixTiles ? (words(values) + 15) / 16 * 16 : words(values); }
// Makes what a product may read behind the n values of an operand row zero, up to `end` words. To be called before the
// values are written, because an odd row's last one goes too.
template <class T>
inline void clear_behind(T* row, int64_t n, int64_t end) {
  if (kPairs && n / 2 < end) std::memset(static_cast<void*>(row + n / 2), 0, size_t(end - n / 2) * sizeof(T));
}

// The next kLanes<T> words of a row in storage type d (with pairs: bf16) of which n values are left.
template <class T>
FASTRNN_INLINE Vec<T> load_words(const void* src, DType d, int64_t n) {
  if constexpr (!kPairs) {
    return load_lanes<T>(src, d, n);
  } else {
    (void)d;
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
}

// dst[0 .. words(n)) = a row of n values
template <class T>
inline void load_operand_row(T* dst, const void* src, DType d, int64_t n) {
  if constexpr (!kPairs) {
    load_row(dst, src, d, n);
  } else {
    if (n % 2) dst[n / 2] = T(0);
    std::memcpy(dst, src, size_t(n) * 2);
  }
}

// Lane l is the word of values a[l] and b[l], one above the other in two rows of which n are there; b may be null:
// zeros.
// Without pairs it is a[l] alone.
template <class T>
FASTRNN_INLINE Vec<T> load_column_words(const void* a, const void* b, DType d, int64_t n) {
  if constexpr (!kPairs) {
    return load_lanes<T>(a, d, n);
  } else {
    const Lanes32 zeros{};
    return bit_cast<Vec<T>>((a ? load_halves(a, n) : zeros) | (b ? load_halves(b, n) : zeros) << 16);
  }
}

template <class T>
FASTRNN_INLINE Vec<T> broadcast_word(const T* p) {
  if constexpr (!kPairs) {
    return broadcast(*p);
  } else {
    uint32_t bits;
    std::memcpy(&bits, p, sizeof bits);  // a row of pairs may begin at any 16-bit value
    return bit_cast<Vec<T>>(bits + Lanes32{});
  }
}

// As many neighbouring words as 16 bytes hold, over and over; and word I of them in all lanes. One load in place of one
// a word, which counts where a product waits for loads.
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

// sum + a b, with pairs sum + a_low b_low + a_high b_high
template <class T>
FASTRNN_INLINE Vec<T> multiply_add(Vec<T> sum, Vec<T> a, Vec<T> b) {
  if constexpr (!kPairs) {
    return sum + a * b;
  } else {
#if defined(FASTRNN_DOTS)
    return Vec<T>(_mm512_dpbf16_ps(__m512(sum), bit_cast<__m512bh>(a), bit_cast<__m512bh>(b)));
#else
    const Lanes32 x = bit_cast<Lanes32>(a), y = bit_cast<Lanes32>(b);
    sum += bit_cast<Vec<T>>(x << 16) * bit_cast<Vec<T>>(y << 16);
    return sum + bit_cast<Vec<T>>(x & 0xffff0000u) * bit_cast<Vec<T>>(y & 0xffff0000u);
#endif
  }
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

// ---- layout ----------------------------------------------------------------------------------------------------------
// Rows that a tile reads by broadcast, several at a time: at a stride of a multiple of 2 KiB they would all fall into
// one or two sets of the first-level cache and push each other out. An odd number of cache lines spreads them.
template <class T>
constexpr int64_t spread_stride(int64_t columns) {
  return ((columns * int64_t(sizeof(T)) + 63) / 64 | 1) * 64 / int64_t(sizeof(T));
}
inline bool collides(DType d, int64_t stride) { return stride * size_of(d) % 2048 == 0; }

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
