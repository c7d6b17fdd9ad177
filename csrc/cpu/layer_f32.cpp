#include "layer.inl"

namespace fastrnn {
inline namespace FASTRNN_ISA {
template void layer_forward<float>(int, const ForwardArgs&);
template void layer_backward<float>(int, const BackwardArgs&);
template int64_t reserve_size<float>(int, int64_t, int64_t);

int64_t pack_weights(int cell, bool rounded, int64_t I, int64_t H, int64_t R, const float* w_ih, const float* w_hh,
                     uint32_t* dst) {
  return with_cell<float>(cell, [&](auto c) {
    using Cell = decltype(c);
    using Gates = GateWeights<Cell, float>;
    uint32_t* const values = dst ? dst + kPackedHead : nullptr;
    if (dst) std::fill(dst, values, uint32_t(rounded));
    const int64_t first = rounded ? half_size<Cell>(H, I) : Gates::size(H, I);
    if (dst && rounded) {
      pack_half<Cell>(values, w_ih, H, I);
      pack_half<Cell>(values + first, w_hh, H, R);
    } else if (dst) {
      Gates::pack_all(reinterpret_cast<float*>(values), w_ih, H, I);
      Gates::pack_all(reinterpret_cast<float*>(values + first), w_hh, H, R);
    }
    return kPackedHead + first + (rounded ? half_size<Cell>(H, R) : Gates::size(H, R));
  });
}
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
