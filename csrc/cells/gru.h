// Gated recurrent unit (Cho et al., EMNLP 2014), in the form of cuDNN and torch: the reset gate is applied after the
// recurrent product.
//   r = sigmoid(gx_r + gh_r)     z = sigmoid(gx_z + gh_z)     n = tanh(gx_n + r gh_n)     h = (1 - z) n + z h_{t-1}
#pragma once
#include "cell.h"

namespace fastrnn {

struct Gru {
  static constexpr int kGates = 3, kSaved = 4;  // r, z, n, gh_n
  static constexpr bool kHasCellState = false, kReadsH = false, kReadsHPrev = true, kPassesH = true;
  static constexpr int kGradColumns = 4, kGradX = 0, kGradH = 1;  // n_x, r, z, n_h
  static constexpr int gate_of_x(int j) { return (j + 2) % 3; }   // n, r, z
  static constexpr int gate_of_h(int j) { return j; }             // r, z, n

  template <class M, class V = typename M::V>
  static FASTRNN_CELL void forward(const V* gx, const V* gh, V h_prev, V, V& h, V&, V* saved) {
    const V r = M::sigmoid(gx[0] + gh[0]);
    const V z = M::sigmoid(gx[1] + gh[1]);
    const V n = M::tanh(gx[2] + r * gh[2]);
    h = n + z * (h_prev - n);
    saved[0] = r;
    saved[1] = z;
    saved[2] = n;
    saved[3] = gh[2];
  }

  template <class M, class V = typename M::V>
  static FASTRNN_CELL void backward(const V* saved, V, V h_prev, V, V, V dh, V, V* grad, V& dh_prev, V&) {
    using T = typename M::T;
    const V r = saved[0], z = saved[1], n = saved[2], gh_n = saved[3];
    const V dn = dh * (T(1) - z) * (T(1) - n * n);  // d(gx_n + r gh_n)
    grad[0] = dn;
    grad[1] = dn * gh_n * r * (T(1) - r);
    grad[2] = dh * (h_prev - n) * z * (T(1) - z);
    grad[3] = dn * r;
    dh_prev = dh * z;
  }
};

}  // namespace fastrnn
