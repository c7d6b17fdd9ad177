#include "layer.inl"

namespace fastrnn {
namespace cuda {
FASTRNN_INSTANTIATE(Exact<float>)
}  // namespace cuda
}  // namespace fastrnn
