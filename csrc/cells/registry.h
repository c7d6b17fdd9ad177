// The one list of cells: X(name as Python says it, type). The position is the cell's number in the kernel interface.
#pragma once
#include "elman.h"
#include "gru.h"
#include "lstm.h"

#define FASTRNN_CELLS(X)                        \
  X(rnn_tanh, ::fastrnn::Elman<TanhActivation>) \
  X(rnn_relu, ::fastrnn::Elman<ReluActivation>) \
  X(gru, ::fastrnn::Gru)                        \
  X(lstm, ::fastrnn::Lstm)
