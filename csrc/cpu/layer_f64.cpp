#include "layer.inl"

namespace fastrnn {
inline namespace FASTRNN_ISA {
template void layer_forward<double>(int, const ForwardArgs&);
template void layer_backward<double>(int, const BackwardArgs&);
template int64_t reserve_size<double>(int, int64_t, int64_t);
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
