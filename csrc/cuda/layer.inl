// Definitions of layer.h; a unit includes this and instantiates it for one operand type.
#include "layer.h"
#include "pass.cuh"

namespace fastrnn {
namespace cuda {

template <class Use>
auto with_cell(int cell, Use&& use) {
  int i = 0;
#define FASTRNN_CASE(name, type) \
  if (cell == i++) return use(type{});
  FASTRNN_CELLS(FASTRNN_CASE)
#undef FASTRNN_CASE
  throw std::invalid_argument("fastrnn: unknown cell number");
}

template <class Op>
void layer_forward(int cell, const Forward& f) {
  with_cell(cell, [&](auto c) { Pass<Op>(f.call).template forward<decltype(c)>(f); });
}

template <class Op>
void layer_backward(int cell, const Backward& b) {
  with_cell(cell, [&](auto c) { Pass<Op>(b.call).template backward<decltype(c)>(b); });
}

template <class Op>
int64_t workspace_size(int cell, const Call& call, bool backward) {
  return with_cell(cell, [&](auto c) {
    Pass<Op> pass(call);
    backward ? pass.template plan_backward<decltype(c)>() : pass.template plan_forward<decltype(c)>();
    return pass.used();
  });
}

template <class Op>
Plan layer_plan(int cell, const Call& call, bool backward) {
  return with_cell(cell, [&](auto c) {
    const Pass<Op> pass(call);
    return backward ? pass.template plan<BackwardCell<decltype(c), Op>>()
                    : pass.template plan<ForwardCell<decltype(c), Op>>();
  });
}

#define FASTRNN_INSTANTIATE(Op)                                \
  template void layer_forward<Op>(int, const Forward&);        \
  template void layer_backward<Op>(int, const Backward&);      \
  template int64_t workspace_size<Op>(int, const Call&, bool); \
  template Plan layer_plan<Op>(int, const Call&, bool);

}  // namespace cuda
}  // namespace fastrnn
