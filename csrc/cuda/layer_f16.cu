#include "layer.inl"

namespace fastrnn {
namespace cuda {
FASTRNN_INSTANTIATE(F16)
}  // namespace cuda
}  // namespace fastrnn
