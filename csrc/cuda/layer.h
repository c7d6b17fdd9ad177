// What module.cpp binds. Each operand type has a unit of its own (layer_*.cu), so that they compile in parallel.
#pragma once
#include "plan.h"

namespace fastrnn {
namespace cuda {

// operand.cuh
struct Bf16;
struct F16;
struct Tf32;
template <class T>
struct Exact;

template <class Op>
void layer_forward(int cell, const Forward& f);
template <class Op>
void layer_backward(int cell, const Backward& b);
// Bytes of workspace of either pass; the call's pointers are not read.
template <class Op>
int64_t workspace_size(int cell, const Call& c, bool backward);
// The tier that the current device would run the call in.
template <class Op>
Plan layer_plan(int cell, const Call& c, bool backward);

}  // namespace cuda
}  // namespace fastrnn
