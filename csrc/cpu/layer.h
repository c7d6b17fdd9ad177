// What module.cpp binds: one layer in one direction, any cell, one function a direction of the data.
#pragma once
#include "simd.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

template <class T>
void layer_forward(int cell, const ForwardArgs& args);
template <class T>
void layer_backward(int cell, const BackwardArgs& args);
// Values of type T that forward leaves for backward, `rows` = N.
template <class T>
int64_t reserve_size(int cell, int64_t rows, int64_t H);

// 32-bit words of Weights::packed for fp32 weights w_ih (G*H, I) and w_hh (G*H, R), rounded to bf16 or as they are;
// written to dst unless that is null. dst is aligned as a tensor's memory is.
int64_t pack_weights(int cell, bool rounded, int64_t I, int64_t H, int64_t R, const float* w_ih, const float* w_hh,
                     uint32_t* dst);
}  // namespace FASTRNN_ISA

// The same for bf16 data by products of pairs, compiled for processors that have them (layer_bf16.cpp); for the others,
// because in its own unit a namespace is inline.
#if !defined(FASTRNN_PAIRS)
#define FASTRNN_BF16_UNIT(name)                            \
  namespace name {                                         \
  template <class T>                                       \
  void layer_forward(int cell, const ForwardArgs& args);   \
  template <class T>                                       \
  void layer_backward(int cell, const BackwardArgs& args); \
  }
#if defined(FASTRNN_WITH_DOTS)
FASTRNN_BF16_UNIT(FASTRNN_WITH_DOTS)
#endif
#if defined(FASTRNN_WITH_AMX)
FASTRNN_BF16_UNIT(FASTRNN_WITH_AMX)
#endif
#endif
}  // namespace fastrnn
