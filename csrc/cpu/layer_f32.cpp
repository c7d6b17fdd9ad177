#include "layer.inl"

namespace fastrnn {
inline namespace FASTRNN_ISA {
template void layer_forward<float>(int, const ForwardArgs&);
template void layer_backward<float>(int, const BackwardArgs&);
template int64_t reserve_size<float>(int, int64_t, int64_t);
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
