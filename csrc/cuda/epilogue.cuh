// What follows the product for one (row, unit): the cell, or the projection's plain store. Every tier uses these.
//
// An epilogue has kOutputs values a unit from the product (its gates) and three kinds of values beside it:
//   Fixed    of a unit, the same in every step: fix(unit)
//   State    of (row, unit), from step to step: start(row, unit) reads it from memory, where keep() puts it; the kernels
//            that run all steps hold it in registers
//   Loaded   of (step, row, unit): load() may run before the product is there, and does nothing with what it loads, so
//            that nobody waits for it there
// finish() takes all of them and the sums, and gives the values that the next product takes from (row, unit), kResults of
// them, and a Result, which write() puts into memory. rows(step) is how many rows take part; units() is asked on the host, too.
#pragma once
#include <type_traits>

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

  struct Fixed {
    A b_ih[G], b_hh[G];
  };
  struct State {
    A h, c;
  };
  struct Loaded {
    // as it lies in memory: native values, or 16-bit ones in the low half
    std::conditional_t<sizeof(S) == 2, uint32_t, A> gx[G];
  };
  struct Result {
    A h, c, saved[Cell::kSaved + 1];
  };
  FASTRNN_DEVICE int rows(const Step& s) const { return s.batch; }
  FASTRNN_BOTH int units() const { return H; }

  FASTRNN_DEVICE void fix(Fixed& f, int u) const {
#pragma unroll
    for (int g = 0; g < G; ++g) {
      f.b_ih[g] = value<Op>(b_ih, int64_t(g) * H + u);
      f.b_hh[g] = value<Op>(b_hh, int64_t(g) * H + u);
    }
  }
  FASTRNN_DEVICE void start(State& z, int b, int u) const {
    const int64_t at = int64_t(b) * H + u;
    z.h = Cell::kReadsHPrev ? h[at] : A(0);
    z.c = Cell::kHasCellState ? c[at] : A(0);
  }
  FASTRNN_DEVICE void keep(const State& z, int b, int u) const {
    const int64_t at = int64_t(b) * H + u;
    if (Cell::kReadsHPrev) h[at] = z.h;
    if (Cell::kHasCellState) c[at] = z.c;
  }
  FASTRNN_DEVICE void load(Loaded& l, const Step& s, int b, int u) const {
    // first what changes with the step and then what does not, here and below: the second part is computed once
    const auto* native = static_cast<const A*>(gx) + s.row * (G * H) + (int64_t(b) * G * H + u);
    const auto* narrow = static_cast<const S*>(gx) + s.row * (G * H) + (int64_t(b) * G * H + u);
#pragma unroll
    for (int g = 0; g < G; ++g) {
      if constexpr (sizeof(S) == 2) {
        if (gx_native)
          l.gx[g] = reinterpret_cast<const uint32_t*>(native)[int64_t(g) * H];
        else
          l.gx[g] = narrow[int64_t(g) * H];
      } else {
        l.gx[g] = native[int64_t(g) * H];
      }
    }
  }

  FASTRNN_DEVICE void finish(const Fixed& f, State& z, const Loaded& l, Result& r, const Step&, int, int,
                             const A (&sums)[G], A (&out)[1]) const {
    A x[G], gh[G];
#pragma unroll
    for (int g = 0; g < G; ++g) {
      if constexpr (sizeof(S) == 2)
        x[g] = gx_native ? as_float(l.gx[g]) : Op::load(S(l.gx[g]));
      else
        x[g] = l.gx[g];
      x[g] += f.b_ih[g], gh[g] = f.b_hh[g] + sums[g];
    }
    r.c = A(0);
    Cell::template forward<typename Op::Math>(x, gh, z.h, z.c, r.h, r.c, r.saved);
    z.h = out[0] = r.h, z.c = r.c;
  }
  FASTRNN_DEVICE void write(const Result& r, const Step& s, int b, int u) const {
    constexpr int K = Cell::kSaved;
    const int64_t state = int64_t(b) * H + u, first = s.row * H;
    if (!projected)
      (y + first)[state] = Op::store(r.h);
    else if (hidden)
      (hidden + first)[state] = Op::store(r.h);
    if (saved) {
      A* to = saved + K * first + (int64_t(b) * K * H + u);
#pragma unroll
      for (int i = 0; i < K; ++i) to[int64_t(i) * H] = r.saved[i];
      if (Cell::kHasCellState) (c_saved + first)[state] = r.c;
    }
    if (b < s.last_from) return;
    if (Cell::kHasCellState) c_n[state] = Op::store(r.c);
    if (!projected) h_n[state] = Op::store(r.h);
  }
};

// An epilogue's kinds of values that it has none of.
struct Nothing {};

// y = W_hr h
template <class Op>
struct ForwardProjection {
  using S = typename Op::Storage;
  using A = typename Op::Acc;
  static constexpr bool kBackward = false;
  static constexpr int kOutputs = 1, kResults = 1;
  int P;
  S *y, *h_n;  // (N, P), (B, P)

  using Fixed = Nothing;
  using State = Nothing;
  using Loaded = Nothing;
  using Result = A;
  FASTRNN_DEVICE int rows(const Step& s) const { return s.batch; }
  FASTRNN_BOTH int units() const { return P; }
  FASTRNN_DEVICE void fix(Fixed&, int) const {}
  FASTRNN_DEVICE void start(State&, int, int) const {}
  FASTRNN_DEVICE void keep(const State&, int, int) const {}
  FASTRNN_DEVICE void load(Loaded&, const Step&, int, int) const {}
  FASTRNN_DEVICE void finish(const Fixed&, State&, const Loaded&, Result& r, const Step&, int, int, const A (&sums)[1],
                             A (&out)[1]) const {
    r = out[0] = sums[0];
  }
  FASTRNN_DEVICE void write(const Result& r, const Step& s, int b, int u) const {
    y[(s.row + b) * P + u] = Op::store(r);
    if (b >= s.last_from) h_n[int64_t(b) * P + u] = Op::store(r);
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

  using Fixed = Nothing;
  struct State {
    A dh, dc;  // gradients that a step passes on directly
  };
  struct Loaded {
    A saved[Cell::kSaved + 1], c, c_prev;
    S h, h_prev, dy;
  };
  struct Result {
    A grad[GC];
  };
  FASTRNN_DEVICE int rows(const Step& s) const { return s.batch > s.leaving ? s.batch : s.leaving; }
  FASTRNN_BOTH int units() const { return H; }

  FASTRNN_DEVICE void fix(Fixed&, int) const {}
  FASTRNN_DEVICE void start(State& z, int b, int u) const {
    const int64_t at = int64_t(b) * H + u;
    z.dh = projected ? A(0) : carry_h[at];
    z.dc = Cell::kHasCellState ? carry_c[at] : A(0);
  }
  FASTRNN_DEVICE void keep(const State& z, int b, int u) const {
    const int64_t at = int64_t(b) * H + u;
    if (!projected) carry_h[at] = z.dh;
    if (Cell::kHasCellState) carry_c[at] = z.dc;
  }
  FASTRNN_DEVICE void load(Loaded& l, const Step& s, int b, int u) const {
    if (b >= s.batch) return;
    constexpr int K = Cell::kSaved;
    const int64_t state = int64_t(b) * H + u, first = s.row * H;
    l.dy = !projected && dy ? (dy + first)[state] : S(0);
    const A* from = saved + K * first + (int64_t(b) * K * H + u);
#pragma unroll
    for (int i = 0; i < K; ++i) l.saved[i] = from[int64_t(i) * H];
    const bool before = b < s.continuing;
    if (Cell::kReadsH) l.h = (y + first)[state];
    if (Cell::kReadsHPrev) l.h_prev = before ? (y + s.before * H)[state] : hx ? hx[state] : S(0);
    if (Cell::kHasCellState) {
      l.c = (c_saved + first)[state];
      l.c_prev = before ? (c_saved + s.before * H)[state] : value<Op>(cx, state);
    }
  }

  FASTRNN_DEVICE void finish(const Fixed&, State& z, const Loaded& l, Result& r, const Step& s, int b, int u,
                             const A (&sums)[1], A (&out)[kResults]) const {
    A dh = z.dh + sums[0];
    if (b >= s.batch) {  // to hx and cx, in the row's last step
      const int64_t state = int64_t(b) * H + u;
      if (dhx && !projected) dhx[state] = Op::store(dh);
      if (Cell::kHasCellState && dcx) dcx[state] = Op::store(z.dc);
#pragma unroll
      for (int g = 0; g < kResults; ++g) out[g] = A(0);
      return;
    }
    if (!projected) dh += Op::load(l.dy);
    const A h = Cell::kReadsH ? Op::load(l.h) : A(0), h_prev = Cell::kReadsHPrev ? Op::load(l.h_prev) : A(0);
    const A c = Cell::kHasCellState ? l.c : A(0), c_prev = Cell::kHasCellState ? l.c_prev : A(0);
    A dh_prev, dc_prev = A(0);
    Cell::template backward<typename Op::Math>(l.saved, h, h_prev, c, c_prev, dh, z.dc, r.grad, dh_prev, dc_prev);
    z.dh = projected ? A(0) : dh_prev, z.dc = dc_prev;
#pragma unroll
    for (int g = 0; g < kResults; ++g) out[g] = r.grad[Cell::kGradH + g];
  }
  FASTRNN_DEVICE void write(const Result& r, const Step& s, int b, int u) const {
    if (b >= s.batch) return;
    S* to = dg + s.row * (GC * H) + (int64_t(b) * GC * H + u);
#pragma unroll
    for (int j = 0; j < GC; ++j) to[int64_t(j) * H] = Op::store(r.grad[j]);
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

  using Fixed = Nothing;
  struct State {
    A dh;
  };
  struct Loaded {
    S dy;
  };
  using Result = A;
  FASTRNN_DEVICE int rows(const Step& s) const { return s.batch > s.leaving ? s.batch : s.leaving; }
  FASTRNN_BOTH int units() const { return P; }
  FASTRNN_DEVICE void fix(Fixed&, int) const {}
  FASTRNN_DEVICE void start(State& z, int b, int u) const { z.dh = carry_h[int64_t(b) * P + u]; }
  FASTRNN_DEVICE void keep(const State& z, int b, int u) const { carry_h[int64_t(b) * P + u] = z.dh; }
  FASTRNN_DEVICE void load(Loaded& l, const Step& s, int b, int u) const {
    l.dy = dy && b < s.batch ? dy[(s.row + b) * P + u] : S(0);
  }
  FASTRNN_DEVICE void finish(const Fixed&, State& z, const Loaded& l, Result& r, const Step& s, int b, int u,
                             const A (&sums)[1], A (&out)[1]) const {
    r = z.dh + sums[0];
    if (b >= s.batch) {
      if (dhx) dhx[int64_t(b) * P + u] = Op::store(r);
      out[0] = A(0);
      return;
    }
    r += Op::load(l.dy);
    out[0] = r;
    z.dh = A(0);
  }
  FASTRNN_DEVICE void write(const Result& r, const Step& s, int b, int u) const {
    if (b < s.batch) dh[(s.row + b) * P + u] = Op::store(r);
  }
};

}  // namespace cuda
}  // namespace fastrnn
