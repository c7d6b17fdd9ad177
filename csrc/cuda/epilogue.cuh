// What follows the product for one (row, unit): the cell, or the projection's plain store. Every tier uses these.
//
// An epilogue has kOutputs values a unit from the product (its gates), load(step, row, unit), which may run before the
// product is there, and finish(loaded, step, row, unit, sums), which writes and returns the value that the next product
// takes from (row, unit), kResults of them. rows(step) is how many rows take part; units() is asked on the host, too.
#pragma once
#include "../cells/registry.h"
#include "operand.cuh"
#include "steps.h"

namespace fastrnn {
namespace cuda {

template <class Op>
FASTRNN_DEVICE typename Op::Acc value(const typename Op::Storage* p, int64_t i) {
  return p ? Op::load(p[i]) : typename Op::Acc(0);
}

template <class Cell, class Op>
struct ForwardCell {
  using S = typename Op::Storage;
  using A = typename Op::Acc;
  static constexpr bool kBackward = false;
  static constexpr int G = Cell::kGates, kOutputs = G, kResults = 1;
  int H;
  bool projected, gx_native;
  const void* gx;        // (N, G, H)
  const S *b_ih, *b_hh;  // (G, H) or null
  A *h, *c;              // (B, H): running states; h only for cells that read it
  S *y, *h_n, *c_n;      // (N, H), (B, H), (B, H); y and h_n unless projected
  A *saved, *c_saved;    // (N, kSaved, H), (N, H); null: inference
  S* hidden;             // (N, H) or null

  struct Loaded {
    A gx[G], gh[G], h, c;
  };
  FASTRNN_DEVICE int rows(const Step& s) const { return s.batch; }
  FASTRNN_BOTH int units() const { return H; }

  FASTRNN_DEVICE void load(Loaded& l, const Step& s, int b, int u) const {
    const int64_t row = (s.row + b) * G;
#pragma unroll
    for (int g = 0; g < G; ++g) {
      const int64_t at = (row + g) * H + u;
      const A projected_x = gx_native ? static_cast<const A*>(gx)[at] : Op::load(static_cast<const S*>(gx)[at]);
      l.gx[g] = projected_x + value<Op>(b_ih, int64_t(g) * H + u);
      l.gh[g] = value<Op>(b_hh, int64_t(g) * H + u);
    }
    const int64_t state = int64_t(b) * H + u;
    l.h = Cell::kReadsHPrev ? h[state] : A(0);
    l.c = Cell::kHasCellState ? c[state] : A(0);
  }

  FASTRNN_DEVICE void finish(const Loaded& l, const Step& s, int b, int u, const A (&sums)[G], A (&out)[1]) const {
    A gh[G], keep[Cell::kSaved + 1], cn = A(0);
#pragma unroll
    for (int g = 0; g < G; ++g) gh[g] = l.gh[g] + sums[g];
    Cell::template forward<DeviceMath<A>>(l.gx, gh, l.h, l.c, out[0], cn, keep);
    const int64_t state = int64_t(b) * H + u, row = s.row + b;
    if (Cell::kReadsHPrev) h[state] = out[0];
    if (Cell::kHasCellState) {
      c[state] = cn;
      if (c_saved) c_saved[row * H + u] = cn;
      if (b >= s.last_from) c_n[state] = Op::store(cn);
    }
    if (saved)
#pragma unroll
      for (int i = 0; i < Cell::kSaved; ++i) saved[(row * Cell::kSaved + i) * H + u] = keep[i];
    if (projected) {
      if (hidden) hidden[row * H + u] = Op::store(out[0]);
    } else {
      y[row * H + u] = Op::store(out[0]);
      if (b >= s.last_from) h_n[state] = Op::store(out[0]);
    }
  }
};

// y = W_hr h
template <class Op>
struct ForwardProjection {
  using S = typename Op::Storage;
  using A = typename Op::Acc;
  static constexpr bool kBackward = false;
  static constexpr int kOutputs = 1, kResults = 1;
  int P;
  S *y, *h_n;  // (N, P), (B, P)

  struct Loaded {};
  FASTRNN_DEVICE int rows(const Step& s) const { return s.batch; }
  FASTRNN_BOTH int units() const { return P; }
  FASTRNN_DEVICE void load(Loaded&, const Step&, int, int) const {}
  FASTRNN_DEVICE void finish(const Loaded&, const Step& s, int b, int u, const A (&sums)[1], A (&out)[1]) const {
    out[0] = sums[0];
    y[(s.row + b) * P + u] = Op::store(out[0]);
    if (b >= s.last_from) h_n[int64_t(b) * P + u] = Op::store(out[0]);
  }
};

// dh_t = dg_{t+1} W_hh + dy_t + what the step after passed on directly, then the cell. Under a projection the sum comes
// from BackwardProjection, and the product is dh W_hr.
template <class Cell, class Op>
struct BackwardCell {
  using S = typename Op::Storage;
  using A = typename Op::Acc;
  static constexpr bool kBackward = true;
  static constexpr int GC = Cell::kGradColumns, kOutputs = 1, kResults = Cell::kGates;
  int H;
  bool projected;
  const S *hx, *cx, *y, *dy;  // (B, H), (B, H), (N, H), (N, H), or null
  const A *saved, *c_saved;   // (N, kSaved, H), (N, H)
  A *carry_h, *carry_c;       // (B, H): gradients passed on directly
  S *dg, *dhx, *dcx;          // (N, GC, H), (B, H) or null

  struct Loaded {
    A saved[Cell::kSaved + 1], h, h_prev, c, c_prev, dh, dc;
  };
  FASTRNN_DEVICE int rows(const Step& s) const { return s.batch > s.leaving ? s.batch : s.leaving; }
  FASTRNN_BOTH int units() const { return H; }

  FASTRNN_DEVICE void load(Loaded& l, const Step& s, int b, int u) const {
    const int64_t state = int64_t(b) * H + u, row = s.row + b;
    l.dh = projected ? A(0) : carry_h[state];
    l.dc = Cell::kHasCellState ? carry_c[state] : A(0);
    if (b >= s.batch) return;
    if (!projected) l.dh += value<Op>(dy, row * H + u);
#pragma unroll
    for (int i = 0; i < Cell::kSaved; ++i) l.saved[i] = saved[(row * Cell::kSaved + i) * H + u];
    const bool before = b < s.continuing;
    l.h = Cell::kReadsH ? value<Op>(y, row * H + u) : A(0);
    l.h_prev = !Cell::kReadsHPrev ? A(0) : before ? value<Op>(y, (s.before + b) * H + u) : value<Op>(hx, state);
    l.c = l.c_prev = A(0);
    if (Cell::kHasCellState) {
      l.c = c_saved[row * H + u];
      l.c_prev = before ? c_saved[(s.before + b) * H + u] : value<Op>(cx, state);
    }
  }

  FASTRNN_DEVICE void finish(const Loaded& l, const Step& s, int b, int u, const A (&sums)[1],
                             A (&out)[kResults]) const {
    const int64_t state = int64_t(b) * H + u, row = s.row + b;
    const A dh = l.dh + sums[0];
    if (b >= s.batch) {
      if (dhx && !projected) dhx[state] = Op::store(dh);
      if (Cell::kHasCellState && dcx) dcx[state] = Op::store(l.dc);
#pragma unroll
      for (int g = 0; g < kResults; ++g) out[g] = A(0);
      return;
    }
    A grad[GC], dh_prev, dc_prev = A(0);
    Cell::template backward<DeviceMath<A>>(l.saved, l.h, l.h_prev, l.c, l.c_prev, dh, l.dc, grad, dh_prev, dc_prev);
#pragma unroll
    for (int j = 0; j < GC; ++j) dg[(row * GC + j) * H + u] = Op::store(grad[j]);
    if (!projected) carry_h[state] = dh_prev;
    if (Cell::kHasCellState) carry_c[state] = dc_prev;
#pragma unroll
    for (int g = 0; g < kResults; ++g) out[g] = grad[Cell::kGradH + g];
  }
};

// dh_t (rows of P) under a projection, on its way to the product with W_hr.
template <class Op>
struct BackwardProjection {
  using S = typename Op::Storage;
  using A = typename Op::Acc;
  static constexpr bool kBackward = true;
  static constexpr int kOutputs = 1, kResults = 1;
  int P;
  const S* dy;  // (N, P) or null
  A* carry_h;   // (B, P): dh_n, until the row's last step has taken it
  S *dh, *dhx;  // (N, P); (B, P) or null

  struct Loaded {
    A dh;
  };
  FASTRNN_DEVICE int rows(const Step& s) const { return s.batch > s.leaving ? s.batch : s.leaving; }
  FASTRNN_BOTH int units() const { return P; }
  FASTRNN_DEVICE void load(Loaded& l, const Step& s, int b, int u) const {
    l.dh = carry_h[int64_t(b) * P + u];
    if (b < s.batch) l.dh += value<Op>(dy, (s.row + b) * P + u);
  }
  FASTRNN_DEVICE void finish(const Loaded& l, const Step& s, int b, int u, const A (&sums)[1], A (&out)[1]) const {
    out[0] = l.dh + sums[0];
    const int64_t state = int64_t(b) * P + u;
    if (b >= s.batch) {
      if (dhx) dhx[state] = Op::store(out[0]);
      out[0] = A(0);
      return;
    }
    carry_h[state] = A(0);
    dh[(s.row + b) * P + u] = Op::store(out[0]);
  }
};

}  // namespace cuda
}  // namespace fastrnn
