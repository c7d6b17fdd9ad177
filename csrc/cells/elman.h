// Elman network (J. Elman, "Finding Structure in Time", Cognitive Science 14, 1990):
//   h_t = act(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh),   act = tanh or relu
#pragma once
#include "cell.h"

namespace fastrnn {

struct TanhActivation {
  template <class M, class V>
  static FASTRNN_CELL V apply(V a) {
    return M::tanh(a);
  }
  // d act(a) written through h = act(a), so nothing has to be saved
  template <class M, class V>
  static FASTRNN_CELL V grad(V h, V dh) {
    return dh * (typename M::T(1) - h * h);
  }
};

struct ReluActivation {
  template <class M, class V>
  static FASTRNN_CELL V apply(V a) {
    return M::relu(a);
  }
  template <class M, class V>
  static FASTRNN_CELL V grad(V h, V dh) {
    return M::relu_grad(h, dh);
  }
};

template <class Activation>
struct Elman {
  static constexpr int kGates = 1, kSaved = 0;
  static constexpr bool kHasCellState = false, kReadsH = true, kReadsHPrev = false, kPassesH = false;
  static constexpr int kGradColumns = 1, kGradX = 0, kGradH = 0;
  static constexpr int gate_of_x(int j) { return j; }
  static constexpr int gate_of_h(int j) { return j; }

  template <class M, class V = typename M::V>
  static FASTRNN_CELL void forward(const V* gx, const V* gh, V, V, V& h, V&, V*) {
    h = Activation::template apply<M>(gx[0] + gh[0]);
  }

  template <class M, class V = typename M::V>
  static FASTRNN_CELL void backward(const V*, V h, V, V, V, V dh, V, V* grad, V& dh_prev, V&) {
    grad[0] = Activation::template grad<M>(h, dh);
    dh_prev = V{};
  }
};

}  // namespace fastrnn
