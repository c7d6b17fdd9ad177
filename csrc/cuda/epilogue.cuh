// What follows the product for one (row, unit): the cell, or the projection's plain store. Every tier uses these.
//
// An epilogue has kOutputs values a unit from the product (its gates) and three kinds of values beside it:
//   Fixed    of a unit, the same in every step: fix(unit)
//   State    of a place, from step to step: start(place) reads it from memory, where keep() puts it; the kernels that run
//            all steps hold it in registers
//   Loaded   of a step and place: load() may run before the product is there, and does nothing with what it loads, so
//            that nobody waits for it there
// finish() takes all of them and the sums, and gives the values that the next product takes from the place, kResults of
// them, and a Result, which write() puts into memory (what goes to hx and cx, finish() does itself). rows(step) is how many rows take part; both it and units() are asked
// on the host, too.
#pragma once
#include "../cells/registry.h"
#include "operand.cuh"
#include "steps.h"

namespace fastrnn {
namespace cuda {

// (row, unit) of an epilogue, and row * units + unit.
struct Place {
  int row, unit;
  int64_t state;
};
// Kept in registers: computed anew in every step, it would wait for the constants that it takes.
FASTRNN_DEVICE Place place_at(int row, int unit, int units) {
  return {opaque(row), opaque(unit), opaque(int64_t(row) * units + unit)};
}

// Values that lie side by side, 16 bytes at once where they are so many.
template <int N, class T>
FASTRNN_DEVICE void load_adjacent(T (&v)[N], const T* from) {
  if constexpr (N * sizeof(T) % 16 == 0) {
#pragma unroll
    for (int i = 0; i < int(N * sizeof(T) / 16); ++i)
      reinterpret_cast<Piece*>(v)[i] = load_still(reinterpret_cast<const Piece*>(from) + i);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = from[i];
  }
}
template <int N, class T>
FASTRNN_DEVICE void store_adjacent(T* to, const T (&v)[N]) {
  if constexpr (N * sizeof(T) % 16 == 0) {
#pragma unroll
    for (int i = 0; i < int(N * sizeof(T) / 16); ++i)
      reinterpret_cast<Piece*>(to)[i] = reinterpret_cast<const Piece*>(v)[i];
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) to[i] = v[i];
  }
}

// An epilogue's kinds of values that it has none of.
struct Nothing {};

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
  static constexpr int kSaved = Cell::kSaved ? Cell::kSaved : 1;  // no array has none
  int H;
  bool projected;
  const A* gx;           // (N, H, G)
  const S *b_ih, *b_hh;  // (G, H) or null
  A *h, *c;              // (B, H): running states; h only for cells that read it
  S *y, *h_n, *c_n;      // (N, H), (B, H), (B, H); y and h_n unless projected
  A *saved, *c_saved;    // (N, H, kSaved), (N, H); null: inference
  S* hidden;             // (N, H) or null

  struct Fixed {
    A b_ih[G], b_hh[G];
  };
  struct State {
    A h, c;
  };
  struct Loaded {
    alignas(16) A gx[G];
  };
  struct Result {
    alignas(16) A saved[kSaved];
    A h, c;
  };
  FASTRNN_BOTH int rows(const Step& s) const { return s.batch; }
  FASTRNN_BOTH int units() const { return H; }

  FASTRNN_DEVICE void fix(Fixed& f, int u) const {
#pragma unroll
    for (int g = 0; g < G; ++g) {
      f.b_ih[g] = value<Op>(b_ih, int64_t(g) * H + u);
      f.b_hh[g] = value<Op>(b_hh, int64_t(g) * H + u);
    }
  }
  FASTRNN_DEVICE void start(State& z, const Place& p) const {
    z.h = Cell::kReadsHPrev ? load_device(h + p.state) : A(0);
    z.c = Cell::kHasCellState ? load_device(c + p.state) : A(0);
  }
  FASTRNN_DEVICE void keep(const State& z, const Place& p) const {
    if (Cell::kReadsHPrev) h[p.state] = z.h;
    if (Cell::kHasCellState) c[p.state] = z.c;
  }
  FASTRNN_DEVICE void load(Loaded& l, const Step& s, const Place& p) const {
    load_adjacent(l.gx, gx + (s.row * H + p.state) * G);
  }
  FASTRNN_DEVICE void finish(const Fixed& f, State& z, const Loaded& l, Result& r, const Step&, const Place&,
                             const A (&sums)[G], A (&out)[1]) const {
    A x[G], gh[G];
#pragma unroll
    for (int g = 0; g < G; ++g) x[g] = l.gx[g] + f.b_ih[g], gh[g] = f.b_hh[g] + sums[g];
    r.c = A(0);
    Cell::template forward<typename Op::Math>(x, gh, z.h, z.c, r.h, r.c, r.saved);
    z.h = out[0] = r.h, z.c = r.c;
  }
  FASTRNN_DEVICE void write(const Result& r, const Step& s, const Place& p) const {
    const int64_t at = s.row * H + p.state;
    if (!projected)
      y[at] = Op::store(r.h);
    else if (hidden)
      hidden[at] = Op::store(r.h);
    if (saved) {
      if constexpr (Cell::kSaved > 0) store_adjacent(saved + at * kSaved, r.saved);
      if (Cell::kHasCellState) c_saved[at] = r.c;
    }
    if (p.row < s.last_from) return;
    if (Cell::kHasCellState) c_n[p.state] = Op::store(r.c);
    if (!projected) h_n[p.state] = Op::store(r.h);
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

  using Fixed = Nothing;
  using State = Nothing;
  using Loaded = Nothing;
  using Result = A;
  FASTRNN_BOTH int rows(const Step& s) const { return s.batch; }
  FASTRNN_BOTH int units() const { return P; }
  FASTRNN_DEVICE void fix(Fixed&, int) const {}
  FASTRNN_DEVICE void start(State&, const Place&) const {}
  FASTRNN_DEVICE void keep(const State&, const Place&) const {}
  FASTRNN_DEVICE void load(Loaded&, const Step&, const Place&) const {}
  FASTRNN_DEVICE void finish(const Fixed&, State&, const Loaded&, Result& r, const Step&, const Place&,
                             const A (&sums)[1], A (&out)[1]) const {
    r = out[0] = sums[0];
  }
  FASTRNN_DEVICE void write(const Result& r, const Step& s, const Place& p) const {
    y[s.row * P + p.state] = Op::store(r);
    if (p.row >= s.last_from) h_n[p.state] = Op::store(r);
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
  static constexpr int kSaved = Cell::kSaved ? Cell::kSaved : 1;  // no array has none
  int H;
  bool projected;
  const S *hx, *cx, *y, *dy;  // (B, H), (B, H), (N, H), (N, H), or null
  const A *saved, *c_saved;   // (N, H, kSaved), (N, H)
  A *carry_h, *carry_c;       // (B, H): gradients passed on directly
  S *dg, *dhx, *dcx;          // (N, GC, H), (B, H) or null

  using Fixed = Nothing;
  struct State {
    A dh, dc;  // gradients that a step passes on directly
  };
  struct Loaded {
    alignas(16) A saved[kSaved];
    A c, c_prev;
    S h, h_prev, dy;
  };
  struct Result {
    A grad[GC];
  };
  FASTRNN_BOTH int rows(const Step& s) const { return s.batch > s.leaving ? s.batch : s.leaving; }
  FASTRNN_BOTH int units() const { return H; }

  FASTRNN_DEVICE void fix(Fixed&, int) const {}
  FASTRNN_DEVICE void start(State& z, const Place& p) const {
    z.dh = projected ? A(0) : load_device(carry_h + p.state);
    z.dc = Cell::kHasCellState ? load_device(carry_c + p.state) : A(0);
  }
  FASTRNN_DEVICE void keep(const State& z, const Place& p) const {
    if (!projected) carry_h[p.state] = z.dh;
    if (Cell::kHasCellState) carry_c[p.state] = z.dc;
  }
  FASTRNN_DEVICE void load(Loaded& l, const Step& s, const Place& p) const {
    if (p.row >= s.batch) return;
    const int64_t at = s.row * H + p.state, before = s.before * H + p.state;
    const bool first = p.row >= s.continuing;
    l.dy = !projected && dy ? dy[at] : S(0);
    if constexpr (Cell::kSaved > 0) load_adjacent(l.saved, saved + at * kSaved);
    if (Cell::kReadsH) l.h = y[at];
    if (Cell::kReadsHPrev) l.h_prev = !first ? y[before] : hx ? hx[p.state] : S(0);
    if (Cell::kHasCellState) {
      l.c = c_saved[at];
      l.c_prev = !first ? c_saved[before] : value<Op>(cx, p.state);
    }
  }

  FASTRNN_DEVICE void finish(const Fixed&, State& z, const Loaded& l, Result& r, const Step& s, const Place& p,
                             const A (&sums)[1], A (&out)[kResults]) const {
    A dh = z.dh + sums[0];
    if (p.row >= s.batch) {  // to hx and cx, in the row's last step
      if (dhx && !projected) dhx[p.state] = Op::store(dh);
      if (Cell::kHasCellState && dcx) dcx[p.state] = Op::store(z.dc);
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
  FASTRNN_DEVICE void write(const Result& r, const Step& s, const Place& p) const {
    if (p.row >= s.batch) return;
    S* to = dg + (s.row * H + p.state - p.unit) * GC + p.unit;
#pragma unroll
    for (int j = 0; j < GC; ++j, to += H) *to = Op::store(r.grad[j]);
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
  FASTRNN_BOTH int rows(const Step& s) const { return s.batch > s.leaving ? s.batch : s.leaving; }
  FASTRNN_BOTH int units() const { return P; }
  FASTRNN_DEVICE void fix(Fixed&, int) const {}
  FASTRNN_DEVICE void start(State& z, const Place& p) const { z.dh = load_device(carry_h + p.state); }
  FASTRNN_DEVICE void keep(const State& z, const Place& p) const { carry_h[p.state] = z.dh; }
  FASTRNN_DEVICE void load(Loaded& l, const Step& s, const Place& p) const {
    l.dy = dy && p.row < s.batch ? dy[s.row * P + p.state] : S(0);
  }
  FASTRNN_DEVICE void finish(const Fixed&, State& z, const Loaded& l, Result& r, const Step& s, const Place& p,
                             const A (&sums)[1], A (&out)[1]) const {
    r = z.dh + sums[0];
    if (p.row >= s.batch) {
      if (dhx) dhx[p.state] = Op::store(r);
      out[0] = A(0);
      return;
    }
    r += Op::load(l.dy);
    out[0] = r;
    z.dh = A(0);
  }
  FASTRNN_DEVICE void write(const Result& r, const Step& s, const Place& p) const {
    if (p.row < s.batch) dh[s.row * P + p.state] = Op::store(r);
  }
};

}  // namespace cuda
}  // namespace fastrnn
