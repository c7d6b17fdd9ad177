// Definitions of layer.h; each dtype's unit includes this and instantiates it, so that they compile in parallel.
#include <stdexcept>

#include "../cells/registry.h"
#include "backward.h"
#include "forward.h"
#include "layer.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

template <class T, class Use>
auto with_cell(int cell, Use&& use) {
  int i = 0;
#define FASTRNN_CASE(name, type) \
  if (cell == i++) return use(type{});
  FASTRNN_CELLS(FASTRNN_CASE)
#undef FASTRNN_CASE
  throw std::invalid_argument("fastrnn: unknown cell number");
}

inline const char* cell_name(int cell) {
#define FASTRNN_NAME(name, type) #name,
  static const char* const names[] = {FASTRNN_CELLS(FASTRNN_NAME)};
#undef FASTRNN_NAME
  return names[cell];
}

template <class T>
void layer_forward(int cell, const ForwardArgs& args) {
  with_cell<T>(cell, [&](auto c) {
    const Forward<decltype(c), T> pass(args);
    log_plan(args.reserve ? "forward for training" : "forward", cell_name(cell), args.layer, pass.plan(),
             pass.packed());
    run_team(pass.plan().threads, pass);
  });
}

template <class T>
void layer_backward(int cell, const BackwardArgs& args) {
  with_cell<T>(cell, [&](auto c) {
    const Backward<decltype(c), T> pass(args);
    log_plan("backward", cell_name(cell), args.layer, pass.plan(), pass.packed());
    run_team(pass.plan().threads, pass);
  });
}

template <class T>
int64_t reserve_size(int cell, int64_t rows, int64_t H) {
  return with_cell<T>(cell, [&](auto c) { return Blocks<decltype(c), T>::reserve_size(rows, H); });
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
