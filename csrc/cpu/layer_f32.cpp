#include "layer.inl"

namespace fastrnn {
inline namespace FASTRNN_ISA {
template void layer_forward<float>(int, const ForwardArgs&);
template void layer_backward<float>(int, const BackwardArgs&);
template int64_t reserve_size<float>(int, int64_t, int64_t);

int64_t pack_halves(int cell, int64_t I, int64_t H, int64_t R, const float* w_ih, const float* w_hh, uint32_t* dst) {
  return with_cell<float>(cell, [&](auto c) {
    using Cell = decltype(c);
    const int64_t first = half_size<Cell>(H, I);
    if (dst) {
      pack_half<Cell>(dst, w_ih, H, I);
      pack_half<Cell>(dst + first, w_hh, H, R);
    }
    return first + half_size<Cell>(H, R);
  });
}
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
