// Operands: what products read, and the step that products are made of.
//
// Words of 32 bits (64 in fp64) in arrays of T. A word is one number or, in a unit for bf16 data, two neighbours of a
// row, or of a column where the product sums over rows: bf16 in both cases, the first in the low half. Sums are fp32
// either way. A pair at the end of an odd row has a zero in its high half.
#pragma once
#include "storage.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

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
    return load_pairs<T>(src, n);
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
// zeros. Without pairs it is a[l] alone.
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

// sum + a b, with pairs sum + a_low b_low + a_high b_high
template <class T>
FASTRNN_INLINE Vec<T> multiply_add(Vec<T> sum, Vec<T> a, Vec<T> b) {
  if constexpr (!kPairs) {
    return sum + a * b;
  } else if constexpr (kDots) {
    return dot_pairs<T>(sum, a, b);
  } else {
    const Lanes32 x = bit_cast<Lanes32>(a), y = bit_cast<Lanes32>(b);
    sum += bit_cast<Vec<T>>(x << 16) * bit_cast<Vec<T>>(y << 16);
    return sum + bit_cast<Vec<T>>(x & 0xffff0000u) * bit_cast<Vec<T>>(y & 0xffff0000u);
  }
}

// Rows that a tile reads by broadcast, several at a time: at a stride of a multiple of 2 KiB they would all fall into
// one or two sets of the first-level cache and push each other out. An odd number of cache lines spreads them.
template <class T>
constexpr int64_t spread_stride(int64_t columns) {
  return ((columns * int64_t(sizeof(T)) + 63) / 64 | 1) * 64 / int64_t(sizeof(T));
}
inline bool collides(DType d, int64_t stride) { return stride * size_of(d) % 2048 == 0; }

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
