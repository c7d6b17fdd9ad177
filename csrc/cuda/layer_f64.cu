#include "layer.inl"

namespace fastrnn {
namespace cuda {
FASTRNN_INSTANTIATE(Exact<double>)
}  // namespace cuda
}  // namespace fastrnn
