// The layers on bf16 data by dot products of pairs (see 'operands' in simd.h), in a namespace of their own: not every
// processor with the module's other instructions has these.
#include "layer.inl"

namespace fastrnn {
inline namespace FASTRNN_ISA {
template void layer_forward<float>(int, const ForwardArgs&);
template void layer_backward<float>(int, const BackwardArgs&);
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
