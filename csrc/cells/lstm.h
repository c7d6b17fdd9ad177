// Long short-term memory (Hochreiter & Schmidhuber, Neural Computation 9, 1997) with forget gate (Gers et al., 2000).
//   i, f, o = sigmoid(gx + gh)     g = tanh(gx_g + gh_g)     c = f c_{t-1} + i g     h = o tanh(c)
// A projection (Sak et al., Interspeech 2014) is the driver's business: it replaces h by W_hr h.
#pragma once
#include "cell.h"

namespace fastrnn {

struct Lstm {
  static constexpr int kGates = 4, kSaved = 4;  // i, f, g, o
  static constexpr bool kHasCellState = true, kReadsH = false, kReadsHPrev = false, kPassesH = false;
  static constexpr int kGradColumns = 4, kGradX = 0, kGradH = 0;  // i, f, g, o
  static constexpr int gate_of_x(int j) { return j; }
  static constexpr int gate_of_h(int j) { return j; }

  template <class M, class V = typename M::V>
  static FASTRNN_CELL void forward(const V* gx, const V* gh, V, V c_prev, V& h, V& c, V* saved) {
    const V i = M::sigmoid(gx[0] + gh[0]);
    const V f = M::sigmoid(gx[1] + gh[1]);
    const V g = M::tanh(gx[2] + gh[2]);
    const V o = M::sigmoid(gx[3] + gh[3]);
    c = f * c_prev + i * g;
    h = o * M::tanh(c);
    saved[0] = i;
    saved[1] = f;
    saved[2] = g;
    saved[3] = o;
  }

  template <class M, class V = typename M::V>
  static FASTRNN_CELL V hidden(const V* saved, V c) {
    return saved[3] * M::tanh(c);
  }

  template <class M, class V = typename M::V>
  static FASTRNN_CELL void backward(const V* saved, V, V, V c, V c_prev, V dh, V dc, V* grad, V& dh_prev, V& dc_prev) {
    using T = typename M::T;
    const V i = saved[0], f = saved[1], g = saved[2], o = saved[3];
    const V tanh_c = M::tanh(c);
    const V dc_total = dc + dh * o * (T(1) - tanh_c * tanh_c);
    grad[0] = dc_total * g * i * (T(1) - i);
    grad[1] = dc_total * c_prev * f * (T(1) - f);
    grad[2] = dc_total * i * (T(1) - g * g);
    grad[3] = dh * tanh_c * o * (T(1) - o);
    dh_prev = V{};
    dc_prev = dc_total * f;
  }
};

}  // namespace fastrnn
