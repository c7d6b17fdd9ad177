#include "layer.inl"

namespace fastrnn {
namespace cuda {
FASTRNN_INSTANTIATE(Tf32)
}  // namespace cuda
}  // namespace fastrnn
