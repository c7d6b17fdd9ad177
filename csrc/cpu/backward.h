// Backpropagation through time for one layer and direction.
//
// Steps run against the forward order, again in chunks. A step's dh = dg_{next} W_hh + dy + what the next step passed
// on directly; the cell turns it into gate gradients dg. After a chunk its dx, dW and db are large products over all of
// its rows (weight_grads.h), while its dg is still in cache.
#pragma once
#include "math.h"
#include "weight_grads.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

// One part of the batch. Its members split the units, and the columns and rows of the chunk's products.
template <class Cell, class T>
class BackwardPart {
  using B_ = Blocks<Cell, T>;
  using V = Vec<T>;
  static constexpr int L = B_::L, G = B_::G, GC = Cell::kGradColumns;
  static constexpr int64_t U = B_::U, W2 = 2 * L;
  static_assert(!(Cell::kHasCellState && Cell::kPassesH), "a projection adds nothing to what comes through W_hh");

 public:
  BackwardPart(const BackwardArgs& f, const Plan& plan, const TransposedWeights<Cell, T>& weights, const Steps& steps,
               int members, bool direct, Workspace& ws)
      : f_(f),
        l_(f.layer),
        weights_(weights),
        steps_(steps),
        R_(l_.R()),
        stride_(spread_stride<T>(
            std::max(words(GC * l_.H + kPairs), words(Cell::kGradH * l_.H + kPairs) + panel_words(G * l_.H)))),
        dh_stride_(spread_stride<T>(words(l_.P))),
        operand_(l_.dtype == kOperand<T>),
        chunks_(steps_, plan.chunk_rows),
        chunk_(chunks_.rows()),
        sums_(f, weights, steps_, chunk_, members, stride_, dh_stride_, direct, ws) {
    carry_h_ = ws.take<T>(steps_.B() * R_);
    dg_ = ws.take<T>(chunk_ * stride_);
    dg_next_ = ws.take<T>(steps_.B() * stride_);
    scratch_ = ws.take<T>(members * chunk_ * W2);
    if (weights.lies(R_, 0)) through_h_ = ws.take<T>(panels<T>(R_) * steps_.B() * W2);
    if (Cell::kHasCellState) carry_c_ = ws.take<T>(steps_.B() * l_.H);
    if (l_.P) {
      dh_ = ws.take<T>(chunk_ * dh_stride_);
      if (f.dw_hr) hidden_ = ws.take<T>(chunk_ * l_.H);
    }
  }

  const WeightGrads<Cell, T>& sums() const { return sums_; }

  void operator()(const Member& m) const {
    prepare(m);
    sums_.prepare(m);
    m.sync();
    T* scratch = scratch_ + m.id * chunk_ * W2;
    const T* next = nullptr;  // dg of the step that ran just before, (rows, GC*H)
    int64_t next_t = -1;
    chunks_.each(l_.reverse, [&](const Chunk& c) {
      for (int64_t s = 0; s < c.last - c.first; ++s) {
        const int64_t t = l_.reverse ? c.first + s : c.last - 1 - s;
        step(m, t, next_t, next, c, scratch);
        next = dg_ + (steps_.offset(t) - c.begin) * stride_;
        next_t = t;
      }
      keep_for_next_chunk(m, next, steps_.batch(next_t));
      next = dg_next_;
      sums_.add(m, c, dg_, dh_, hidden_, scratch);
    });
    step(m, -1, next_t, next, Chunk{}, scratch);
  }

 private:
  // A vector of one row after the other, at one distance; zeros where there is nothing.
  struct Rows {
    const void* next = nullptr;
    int64_t stride = 0;
    FASTRNN_INLINE V take(DType d, int64_t n) {
      if (!next) return V{};
      const V v = load_lanes<T>(next, d, n);
      next = at(next, d, stride);
      return v;
    }
  };

  void prepare(const Member& m) const {
    int64_t a, b;
    m.share(chunk_, 1, a, b);
    for (int64_t r = a; r < b; ++r) {
      clear_behind(dg_ + r * stride_, GC * l_.H, stride_);
      if (l_.P) clear_behind(dh_ + r * dh_stride_, l_.P, dh_stride_);
    }
    m.share(steps_.B(), 1, a, b);
    for (int64_t r = a; r < b; ++r) {
      initial(carry_h_ + r * R_, f_.dh_n, steps_.in_batch(r), R_);
      if (Cell::kHasCellState) initial(carry_c_ + r * l_.H, f_.dc_n, steps_.in_batch(r), l_.H);
    }
  }

  void initial(T* dst, const void* src, int64_t row, int64_t columns) const {
    if (src)
      load_row(dst, at(src, l_.dtype, row * columns), l_.dtype, columns);
    else
      std::fill(dst, dst + columns, T(0));
  }

  void keep_for_next_chunk(const Member& m, const T* dg, int64_t batch) const {
    int64_t a, b;
    m.share(batch, 1, a, b);
    std::memcpy(dg_next_ + a * stride_, dg + a * stride_, size_t((b - a) * stride_) * sizeof(T));
  }

  // Step t given dg of the step `next_t` that ran before it (-1: none). t = -1: only what reaches hx and cx.
  void step(const Member& m, int64_t t, int64_t next_t, const T* next, const Chunk& c, T* scratch) const {
    const int64_t batch = t < 0 ? 0 : steps_.batch(t), next_batch = next_t < 0 ? 0 : steps_.batch(next_t);
    const int64_t continuing = std::min(batch, next_batch);
    int64_t r0, r1;
    m.share(panels<T>(R_), 1, r0, r1);
    // panels that lie, all at once; what continues apart from what leaves, so that its sums are the same with dhx or
    // without
    const auto in_place = [&](int64_t a, int64_t b) {
      if (through_h_ && a < b)
        weights_.hidden_in_place(r0, r1, b - a, gate_gradients(next, a), stride_,
                                 [&](int64_t p) { return through_h_ + (p * steps_.B() + a) * W2; });
    };
    in_place(0, continuing);
    if (f_.dhx) in_place(continuing, next_batch);
    for (int64_t i = r0; i < r1; ++i) {
      // to and fro, so that a step begins with the packed weights that the one before has left in the cache
      const auto nth = [&](int64_t n) { return t & 1 ? r0 + r1 - 1 - n : n; };
      const int64_t p = nth(i), then = i + 1 < r1 ? nth(i + 1) : -1;
      if (continuing < next_batch) {  // rows whose first step was next_t: their gradient leaves through hx
        leave(p, continuing, next_batch, f_.dhx ? product(next, continuing, next_batch, p, -1, scratch) : nullptr);
      }
      if (continuing) arrive(t, c, p, 0, continuing, product(next, 0, continuing, p, then, scratch));
      if (continuing < batch) arrive(t, c, p, continuing, batch, nullptr);
    }
    if (l_.P) through_projection(m, t, next_t, c, continuing, batch, next_batch, scratch);
    m.sync();
  }

  // (b - a, 2L): dg_{next} W_hh of rows [a, b), in scratch unless it is there; then: the panel after p, or -1
  const T* product(const T* next, int64_t a, int64_t b, int64_t p, int64_t then, T* scratch) const {
    if (weights_.lies(R_, p)) return through_h_ + (p * steps_.B() + a) * W2;
    weights_.hidden(p, then, b - a, gate_gradients(next, a), stride_, scratch);
    return scratch;
  }

  // Row a of the part of dg that goes through h
  const T* gate_gradients(const T* dg, int64_t a) const {
    return static_cast<const T*>(at(dg + a * stride_, kOperand<T>, Cell::kGradH * l_.H));
  }

  void leave(int64_t p, int64_t a, int64_t b, const T* product) const {
    for (int64_t r = a; r < b; ++r)
      for (int v = 0; v < panel_vectors<T>(R_, p); ++v) {
        const int64_t column = p * W2 + v * L, n = R_ - column;
        if (f_.dhx) {
          V dh = load(product + (r - a) * W2 + v * L);
          if (Cell::kPassesH) dh += load_lanes<T>(carry_h_ + r * R_ + column, kNative<T>, n);
          store_lanes<T>(at(f_.dhx, l_.dtype, steps_.in_batch(r) * R_ + column), dh, l_.dtype, n);
        }
        if (!l_.P) leave_c(r, column);
      }
  }

  void leave_c(int64_t row, int64_t unit) const {
    if (Cell::kHasCellState && f_.dcx)
      store_lanes<T>(at(f_.dcx, l_.dtype, steps_.in_batch(row) * l_.H + unit),
                     load_lanes<T>(carry_c_ + row * l_.H + unit, kNative<T>, l_.H - unit), l_.dtype, l_.H - unit);
  }

  // dh of rows [a, b) and columns of panel p is complete: on to the cell, or to the projection first.
  // product (b - a, 2L): the part through W_hh; null: none
  void arrive(int64_t t, const Chunk& c, int64_t p, int64_t a, int64_t b, const T* product) const {
    for (int v = 0; v < panel_vectors<T>(R_, p); ++v) {
      const int64_t column = p * W2 + v * L, n = R_ - column;
      if (!l_.P) {
        cells(t, c, column, a, b, product ? product + v * L : nullptr);
        continue;
      }
      for (int64_t r = a; r < b; ++r) {
        V dh =
            product ? load(product + (r - a) * W2 + v * L) : load_lanes<T>(carry_h_ + r * R_ + column, kNative<T>, n);
        if (f_.dy.data) dh += load_lanes<T>(at(steps_.row(f_.dy, t, r), l_.dtype, column), l_.dtype, n);
        store_lanes<T>(at(dh_ + (steps_.offset(t) + r - c.begin) * dh_stride_, kOperand<T>, column), dh, kOperand<T>,
                       n);
      }
    }
  }

  void through_projection(const Member& m, int64_t t, int64_t next_t, const Chunk& c, int64_t continuing, int64_t batch,
                          int64_t next_batch, T* scratch) const {
    m.sync();
    int64_t p0, p1;
    m.share(panels<T>(l_.H), 1, p0, p1);
    for (int64_t p = p0; p < p1; ++p) {
      if (next_t >= 0)
        for (int64_t r = continuing; r < next_batch; ++r)
          for (int64_t unit = p * W2; unit < std::min(l_.H, (p + 1) * W2); unit += L) leave_c(r, unit);
      if (!batch) continue;
      weights_.projection(p, batch, dh_ + (steps_.offset(t) - c.begin) * dh_stride_, dh_stride_, scratch);
      for (int v = 0; v < panel_vectors<T>(l_.H, p); ++v) cells(t, c, p * W2 + v * L, 0, batch, scratch + v * L);
    }
  }

  // The epilogue: one vector of units of rows [a, b) of step t.
  void cells(int64_t t, const Chunk& c, int64_t unit, int64_t a, int64_t b, const T* product) const {
    const int64_t middle = std::max(a, std::min(b, steps_.continuing(t)));
    const auto run = [&](int64_t from, int64_t to, bool has_before) {
      if (from == to) return;
      const T* part = product ? product + (from - a) * W2 : nullptr;
      if (operand_ && !l_.P && l_.H - unit >= L)
        cells<true>(t, c, unit, from, to, has_before, part);
      else
        cells<false>(t, c, unit, from, to, has_before, part);
    };
    run(a, middle, true);
    run(middle, b, false);
  }

  // Rows that all have, or all have not, a step before. Writes dg, and what reaches h_{t-1} and c_{t-1} directly.
  // product: dh's part through W_hh, or under a projection all of dh; rows at 2L, or null. Whole: a full vector in the
  // type of the operands, the common case, without a question in the loop whose answer changes.
  template <bool Whole>
  void cells(int64_t t, const Chunk& c, int64_t unit, int64_t a, int64_t b, bool has_before, const T* product) const {
    const DType d = Whole ? kOperand<T> : l_.dtype;
    const int64_t n = Whole ? L : l_.H - unit, block = unit / U, lane = unit % U, pitch = U * steps_.reserve_pitch();
    const int64_t all = steps_.all_rows(), before = steps_.before(t), own = steps_.offset(t) - c.begin + a;
    const T* reserve = static_cast<const T*>(f_.reserve);
    const T* saved_in = B_::saved_at(reserve, all, block, steps_.in_reserve(t, a)) + lane;
    const T *c_in = nullptr, *c_before = nullptr;
    if constexpr (Cell::kHasCellState) {
      c_in = B_::c_at(reserve, all, l_.H, block, steps_.in_reserve(t, a)) + lane;
      if (has_before) c_before = B_::c_at(reserve, all, l_.H, block, steps_.in_reserve(before, a)) + lane;
    }
    T* dg = dg_ + own * stride_;
    const auto sequence = [&](const Sequence& s, int64_t step) {
      return s.data ? Rows{at(steps_.row(s, step, a), d, unit), steps_.stride(s)} : Rows{};
    };
    const auto state = [&](const void* s) {
      return s ? Rows{at(s, d, steps_.in_batch(a) * l_.H + unit), l_.H * steps_.pitch()} : Rows{};
    };
    const bool through_here = Whole || !l_.P;  // dy and dh_n have not come in before, at a projection
    Rows dy = through_here ? sequence(f_.dy, t) : Rows{}, y, y_before, cx;
    if constexpr (Cell::kReadsH) y = sequence(f_.y, t);
    if constexpr (Cell::kReadsHPrev) y_before = has_before ? sequence(f_.y, before) : state(f_.hx);
    if constexpr (Cell::kHasCellState) cx = state(f_.cx);
    const bool carried = through_here && (Cell::kPassesH || !product);
    for (int64_t r = a; r < b; ++r) {
      V saved[Cell::kSaved + 1], dh{}, h{}, hp{}, cn{}, cp{}, dc{}, grad[GC], dh_prev{}, dc_prev{};
      if (product) dh = load(product + (r - a) * W2);
      if (carried) dh += load_lanes<T>(carry_h_ + r * R_ + unit, kNative<T>, n);
      dh += dy.take(d, n);
      for (int i = 0; i < Cell::kSaved; ++i) saved[i] = load(saved_in + i * U);
      if constexpr (Cell::kReadsH) h = y.take(d, n);
      if constexpr (Cell::kReadsHPrev) hp = y_before.take(d, n);
      if constexpr (Cell::kHasCellState) {
        cn = load(c_in);
        cp = has_before ? load(c_before) : cx.take(d, n);
        dc = load_lanes<T>(carry_c_ + r * l_.H + unit, kNative<T>, n);
        c_in += pitch, c_before += has_before ? pitch : 0;
      }
      Cell::template backward<Math<T>>(saved, h, hp, cn, cp, dh, dc, grad, dh_prev, dc_prev);
      for (int j = 0; j < GC; ++j) store_lanes<T>(at(dg, kOperand<T>, j * l_.H + unit), grad[j], kOperand<T>, n);
      if (Cell::kPassesH && through_here) store_lanes<T>(carry_h_ + r * R_ + unit, dh_prev, kNative<T>, n);
      if constexpr (Cell::kHasCellState) {
        store_lanes<T>(carry_c_ + r * l_.H + unit, dc_prev, kNative<T>, n);
        if (!Whole && hidden_)
          store_lanes<T>(at(hidden_, kOperand<T>, (own + r - a) * l_.H + unit),
                         Cell::template hidden<Math<T>>(saved, cn), kOperand<T>, n);
      }
      saved_in += Cell::kSaved * pitch, dg += stride_;
    }
  }

  const BackwardArgs& f_;
  const Layer& l_;
  const TransposedWeights<Cell, T>& weights_;
  const Steps steps_;
  const int64_t R_, stride_, dh_stride_;
  const bool operand_;  // storage is the operands' type
  const Chunks chunks_;
  const int64_t chunk_;  // rows of the largest
  const WeightGrads<Cell, T> sums_;
  // (B, R), (B, H): gradients that reach the step before without W_hh; before a row's first step in the order of this
  // pass, dh_n and dc_n. Of a cell that passes none of dh on, the former is read at that step alone.
  T *carry_h_, *carry_c_ = nullptr;
  T *dg_, *dg_next_,
      *scratch_;  // (chunk rows, GC*H); (B, GC*H) of the last step of the chunk before; a member's (chunk rows, 2L)
  T* through_h_ = nullptr;               // [panel][B][2L]: dg_{next} W_hh where the panels of W_hh lie
  T *dh_ = nullptr, *hidden_ = nullptr;  // (chunk rows, P), (chunk rows, H): h's gradient and h before the projection
};

template <class Cell, class T>
class Backward {
  using Part = BackwardPart<Cell, T>;

 public:
  explicit Backward(const BackwardArgs& f)
      : begins_(step_begins(f.layer, ws_)),
        all_(f.layer, begins_, ws_),
        saved_parts_(Blocks<Cell, T>::saved_parts(static_cast<const T*>(f.reserve), all_.rows(), f.layer.H,
                                                  f.layer.B / kPartRows)),
        plan_(make_plan<T>(Pass::backward, f.layer, all_.rows(), Cell::kGates, panels<T>(f.layer.R()), saved_parts_)),
        weights_(f, plan_, all_.rows(), plan_.parts == 1 && all_.rows() <= plan_.chunk_rows, ws_),
        parts_(plan_, ws_, [&](Part* memory, int part, int parts) {
          new (memory) Part(f, plan_, weights_, Steps(f.layer, begins_, ws_, part, parts, saved_parts_ > 1),
                            parts == 1 ? plan_.threads : 1, part == 0, ws_);
        }) {
    prefer_huge_pages(f.dx, all_.rows() * f.layer.I * size_of(f.layer.dtype));
  }

  const Plan& plan() const { return plan_; }
  bool packed() const { return weights_.packed(); }

  void operator()(const Member& m) const {
    const MatrixTiles tiles;
    weights_.prepare(m);
    parts_.each(m, [](const Part& part, const Member& own) { part(own); });
    m.sync();
    WeightGrads<Cell, T>::finish(m, parts_.count(), [&](int i) -> decltype(auto) { return parts_[i].sums(); });
  }

 private:
  Workspace ws_;
  const int64_t* begins_;
  const Steps all_;
  const int saved_parts_;  // that the reserve lies in
  const Plan plan_;
  const TransposedWeights<Cell, T> weights_;
  const Parts<Part> parts_;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
