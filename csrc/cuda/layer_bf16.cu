#include "layer.inl"

namespace fastrnn {
namespace cuda {
FASTRNN_INSTANTIATE(Bf16)
}  // namespace cuda
}  // namespace fastrnn
