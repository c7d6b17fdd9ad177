// The layers on bf16 data by products of pairs (see operands.h): dot products, or matrix tiles with
// FASTRNN_AMX. Each in a namespace of its own, because not every processor with the module's other instructions has
// these.
#include "layer.inl"

namespace fastrnn {
inline namespace FASTRNN_ISA {
template void layer_forward<float>(int, const ForwardArgs&);
template void layer_backward<float>(int, const BackwardArgs&);
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
