// What a cell is. Each header of this folder holds one recurrent cell: its forward step and its backward step, written
// once and compiled for every device, ISA and precision.
//
// A cell is a struct with
//   kGates            G, the number of weight row blocks, in torch's order (LSTM i f g o, GRU r z n, Elman one)
//   kHasCellState     whether a second state c is carried beside h
//   kSaved            how many values a unit leaves per step for the backward pass
//   kGradColumns      how many gate gradients a unit has; they stand side by side so that
//   kGradX, kGradH    columns [kGradX, kGradX + G) are the gradients on the input side (d(W_ih x + b_ih)) and
//                     columns [kGradH, kGradH + G) those on the recurrent side (d(W_hh h + b_hh)):
//                     two views of one buffer, because only the GRU's n gate differs between the sides
//   gate_of_x(j), gate_of_h(j)   the gate (row block of the weights) that column kGradX + j / kGradH + j belongs to
//   kReadsH, kReadsHPrev         whether backward reads h_t / h_{t-1}
//   kPassesH          whether a part of dh_t reaches h_{t-1} past W_hh: otherwise backward's dh_prev is zero
//   forward<Math>(gx, gh, h_prev, c_prev, h, c, saved)
//       gx[g] = (W_ih x_t + b_ih)_g and gh[g] = (W_hh h_{t-1} + b_hh)_g of one unit; writes h, c and saved[kSaved]
//   backward<Math>(saved, h, h_prev, c, c_prev, dh, dc, grad, dh_prev, dc_prev)
//       dh, dc: gradients of h_t and c_t; writes grad[kGradColumns], the part of dh_{t-1} that does not pass through
//       W_hh, and dc_{t-1}
//   hidden<Math>(saved, c)       h_t again from what was saved (cells with kHasCellState; used under a projection)
//
// Math is the device's arithmetic: Math::V is the value type (a SIMD vector on the CPU, float on a GPU) with + - * and
// scalars of type Math::T, and Math::sigmoid, tanh, relu, relu_grad. A cell uses nothing else.
#pragma once

#if defined(__CUDACC__)
#define FASTRNN_CELL __host__ __device__ __forceinline__
#else
#define FASTRNN_CELL inline __attribute__((always_inline))
#endif
