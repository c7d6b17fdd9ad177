// Backpropagation through time for one layer and direction.
//
// Steps run against the forward order, again in chunks. A step's dh = dg_{next} W_hh + dy + what the next step passed on
// directly; the cell turns it into gate gradients dg. After a chunk its dx, dW and db are large products over all of its
// rows (weight_grads.h), while its dg is still in cache.
#pragma once
#include "forward.h"
#include "weight_grads.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

template <class Cell, class T>
class Backward {
  using B_ = Blocks<Cell, T>;
  using V = Vec<T>;
  static constexpr int L = B_::L, G = B_::G, GC = Cell::kGradColumns;
  static constexpr int64_t U = B_::U, W2 = 2 * L;

 public:
  explicit Backward(const BackwardArgs& f)
      : f_(f),
        l_(f.layer),
        R_(l_.R()),
        depth_(G * l_.H),
        stride_(spread_stride<T>(words(GC * l_.H))),
        dh_stride_(spread_stride<T>(words(l_.P))),
        RB_(panels<T>(R_)),
        operand_(l_.dtype == kOperand<T>),
        steps_(l_, ws_),
        rows_(steps_.rows()),
        plan_(make_plan<T>(l_, rows_, G, RB_)),
        chunk_(largest_chunk(l_, steps_, plan_.chunk_rows)),
        sums_(f, steps_, chunk_, plan_.threads, stride_, dh_stride_, ws_) {
    w_hh_ = ws_.take<T>(RB_ * words(depth_) * W2);
    carry_h_ = ws_.take<T>(l_.B * R_);
    dg_ = ws_.take<T>(chunk_ * stride_);
    dg_next_ = ws_.take<T>(l_.B * stride_);
    scratch_ = ws_.take<T>(plan_.threads * chunk_ * W2);
    if (Cell::kHasCellState) carry_c_ = ws_.take<T>(l_.B * l_.H);
    if (l_.P) {
      w_hr_ = ws_.take<T>(panels<T>(l_.H) * words(l_.P) * W2);
      dh_ = ws_.take<T>(chunk_ * dh_stride_);
      if (f.dw_hr) hidden_ = ws_.take<T>(chunk_ * l_.H);
    }
    prefer_huge_pages(f.dx, rows_ * l_.I * size_of(l_.dtype));
  }

  const Plan& plan() const { return plan_; }

  void operator()(const Member& m) const {
    prepare(m);
    sums_.prepare(m);
    m.sync();
    T* scratch = scratch_ + m.id * chunk_ * W2;
    const T* next = nullptr;  // dg of the step that ran just before, (rows, GC*H)
    int64_t next_t = -1;
    for_chunks(l_, steps_, plan_.chunk_rows, l_.reverse, [&](const Chunk& c) {
      for (int64_t s = 0; s < c.last - c.first; ++s) {
        const int64_t t = l_.reverse ? c.first + s : c.last - 1 - s;
        step(m, t, next_t, next, c, scratch);
        next = dg_ + (steps_.offset(t) - c.begin) * stride_;
        next_t = t;
      }
      if (plan_.split_rows) m.sync();
      keep_for_next_chunk(m, next, steps_.batch(next_t));
      next = dg_next_;
      sums_.add(m, c, dg_, dh_, hidden_, scratch);
    });
    step(m, -1, next_t, next, Chunk{}, scratch);
    sums_.finish(m);
  }

 private:
  void prepare(const Member& m) const {
    int64_t a, b;
    m.share(RB_, 1, a, b);
    RowPacker<T> w_hh(w_hh_, words(depth_), l_.dtype, R_, a, b);
    for (int64_t k = 0; k < depth_; ++k) {
      const int64_t row = Cell::gate_of_h(int(k / l_.H)) * l_.H + k % l_.H;
      w_hh.add(at(f_.w.w_hh, l_.dtype, row * R_));
    }
    w_hh.finish();
    if (l_.P) {
      m.share(panels<T>(l_.H), 1, a, b);
      RowPacker<T> w_hr(w_hr_, words(l_.P), l_.dtype, l_.H, a, b);
      for (int64_t k = 0; k < l_.P; ++k) w_hr.add(at(f_.w.w_hr, l_.dtype, k * l_.H));
      w_hr.finish();
    }
    if (kPairs) {  // no word at the end of an odd row may have half a NaN left in it
      m.share(chunk_, 1, a, b);
      for (int64_t r = a; r < b; ++r) {
        dg_[r * stride_ + words(GC * l_.H) - 1] = T(0);
        if (l_.P) dh_[r * dh_stride_ + words(l_.P) - 1] = T(0);
      }
    }
    m.share(l_.B, 1, a, b);
    initial(carry_h_, f_.dh_n, R_, a, b);
    if (Cell::kHasCellState) initial(carry_c_, f_.dc_n, l_.H, a, b);
  }

  void initial(T* dst, const void* src, int64_t columns, int64_t a, int64_t b) const {
    if (src)
      load_row(dst + a * columns, at(src, l_.dtype, a * columns), l_.dtype, (b - a) * columns);
    else
      std::fill(dst + a * columns, dst + b * columns, T(0));
  }

  void keep_for_next_chunk(const Member& m, const T* dg, int64_t batch) const {
    int64_t a, b;
    m.share(batch, 1, a, b);
    std::memcpy(dg_next_ + a * stride_, dg + a * stride_, size_t((b - a) * stride_) * sizeof(T));
  }

  // Step t given dg of the step `next_t` that ran before it (-1: none). t = -1: only what reaches hx and cx.
  void step(const Member& m, int64_t t, int64_t next_t, const T* next, const Chunk& c, T* scratch) const {
    const int64_t batch = t < 0 ? 0 : steps_.batch(t), next_batch = next_t < 0 ? 0 : steps_.batch(next_t);
    const RowShare mine(plan_, m, std::max(batch, next_batch));
    if (plan_.split_rows && l_.batch_sizes) m.sync();  // rows may change hands
    const int64_t continuing = std::min(batch, next_batch);
    int64_t r0 = 0, r1 = RB_;
    if (!plan_.split_rows) m.share(RB_, 1, r0, r1);
    for (int64_t i = r0; i < r1; ++i) {
      // to and fro, so that a step begins with the weights that the one before has left in the cache
      const int64_t p = t & 1 ? r0 + r1 - 1 - i : i;
      // rows whose first step was next_t: their gradient leaves through hx
      mine.each(continuing, next_batch, [&](int64_t a, int64_t b) {
        if (f_.dhx) product(next, a, b, p, scratch);
        leave(p, a, b, scratch);
      });
      mine.each(0, continuing, [&](int64_t a, int64_t b) {
        product(next, a, b, p, scratch);
        arrive(t, c, p, a, b, scratch);
      });
      mine.each(continuing, batch, [&](int64_t a, int64_t b) { arrive(t, c, p, a, b, nullptr); });
    }
    if (l_.P) through_projection(m, t, next_t, c, mine, continuing, batch, next_batch, scratch);
    if (!plan_.split_rows) m.sync();
  }

  // scratch (b - a, 2L) = dg_{next} W_hh
  void product(const T* next, int64_t a, int64_t b, int64_t p, T* scratch) const {
    const void* dg = at(next + a * stride_, kOperand<T>, Cell::kGradH * l_.H);
    plain_product(b - a, words(depth_), static_cast<const T*>(dg), stride_, w_hh_, R_, p, scratch, W2);
  }

  void leave(int64_t p, int64_t a, int64_t b, const T* scratch) const {
    for (int64_t r = a; r < b; ++r)
      for (int v = 0; v < panel_vectors<T>(R_, p); ++v) {
        const int64_t column = p * W2 + v * L, n = R_ - column;
        if (f_.dhx) {
          const V carry = load_lanes<T>(carry_h_ + r * R_ + column, kNative<T>, n);
          store_lanes<T>(at(f_.dhx, l_.dtype, r * R_ + column), carry + load(scratch + (r - a) * W2 + v * L), l_.dtype,
                         n);
        }
        if (!l_.P) leave_c(r, column);
      }
  }

  void leave_c(int64_t row, int64_t unit) const {
    if (Cell::kHasCellState && f_.dcx)
      store_lanes<T>(at(f_.dcx, l_.dtype, row * l_.H + unit),
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
        T* carry = carry_h_ + r * R_ + column;
        V dh = load_lanes<T>(carry, kNative<T>, n);
        if (product) dh += load(product + (r - a) * W2 + v * L);
        if (f_.dy.data) dh += load_lanes<T>(at(steps_.row(f_.dy, t, r), l_.dtype, column), l_.dtype, n);
        store_lanes<T>(at(dh_ + (steps_.offset(t) + r - c.begin) * dh_stride_, kOperand<T>, column), dh, kOperand<T>,
                       n);
        store_lanes<T>(carry, V{}, kNative<T>, n);
      }
    }
  }

  void through_projection(const Member& m, int64_t t, int64_t next_t, const Chunk& c, const RowShare& mine,
                          int64_t continuing, int64_t batch, int64_t next_batch, T* scratch) const {
    if (!plan_.split_rows) m.sync();
    int64_t p0 = 0, p1 = panels<T>(l_.H);
    if (!plan_.split_rows) m.share(p1, 1, p0, p1);
    for (int64_t p = p0; p < p1; ++p) {
      if (next_t >= 0)
        mine.each(continuing, next_batch, [&](int64_t a, int64_t b) {
          for (int64_t r = a; r < b; ++r)
            for (int64_t unit = p * W2; unit < std::min(l_.H, (p + 1) * W2); unit += L) leave_c(r, unit);
        });
      mine.each(0, batch, [&](int64_t a, int64_t b) {
        plain_product(b - a, words(l_.P), dh_ + (steps_.offset(t) + a - c.begin) * dh_stride_, dh_stride_, w_hr_, l_.H,
                      p, scratch, W2);
        for (int v = 0; v < panel_vectors<T>(l_.H, p); ++v) cells(t, c, p * W2 + v * L, a, b, scratch + v * L);
      });
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
  // product: dh's part through W_hh, or under a projection all of dh; rows at 2L, or null. Whole: a full vector in the type
  // of the operands, the common case, without a question in the loop.
  template <bool Whole>
  void cells(int64_t t, const Chunk& c, int64_t unit, int64_t a, int64_t b, bool has_before, const T* product) const {
    const DType d = Whole ? kOperand<T> : l_.dtype;
    const int64_t n = Whole ? L : l_.H - unit, block = unit / U, lane = unit % U;
    const int64_t row = steps_.offset(t) + a, before = steps_.before(t);
    const T* reserve = static_cast<const T*>(f_.reserve);
    const T* saved_in = B_::saved_at(reserve, rows_, block, row) + lane;
    const T *c_in = nullptr, *c_before = nullptr;
    if constexpr (Cell::kHasCellState) {
      c_in = B_::c_at(reserve, rows_, l_.H, block, row) + lane;
      if (has_before) c_before = B_::c_at(reserve, rows_, l_.H, block, steps_.offset(before) + a) + lane;
    }
    T* dg = dg_ + (row - c.begin) * stride_;
    for (int64_t r = a; r < b; ++r) {
      V saved[Cell::kSaved + 1], dh{}, h{}, hp{}, cn{}, cp{}, dc{}, grad[GC], dh_prev{}, dc_prev{};
      if (product) dh = load(product + (r - a) * W2);
      if (Whole || !l_.P) {
        dh += load_lanes<T>(carry_h_ + r * R_ + unit, kNative<T>, n);
        if (f_.dy.data) dh += load_lanes<T>(at(steps_.row(f_.dy, t, r), d, unit), d, n);
      }
      for (int i = 0; i < Cell::kSaved; ++i) saved[i] = load(saved_in + i * U);
      if constexpr (Cell::kReadsH) h = load_lanes<T>(at(steps_.row(f_.y, t, r), d, unit), d, n);
      if constexpr (Cell::kReadsHPrev) {
        const void* p = has_before ? steps_.row(f_.y, before, r) : f_.hx ? at(f_.hx, d, r * l_.H) : nullptr;
        if (p) hp = load_lanes<T>(at(p, d, unit), d, n);
      }
      if constexpr (Cell::kHasCellState) {
        cn = load(c_in);
        if (has_before)
          cp = load(c_before);
        else if (f_.cx)
          cp = load_lanes<T>(at(f_.cx, d, r * l_.H + unit), d, n);
        dc = load_lanes<T>(carry_c_ + r * l_.H + unit, kNative<T>, n);
        c_in += U, c_before += has_before ? U : 0;
      }
      Cell::template backward<Math<T>>(saved, h, hp, cn, cp, dh, dc, grad, dh_prev, dc_prev);
      for (int j = 0; j < GC; ++j) store_lanes<T>(at(dg, kOperand<T>, j * l_.H + unit), grad[j], kOperand<T>, n);
      if (Whole || !l_.P) store_lanes<T>(carry_h_ + r * R_ + unit, dh_prev, kNative<T>, n);
      if constexpr (Cell::kHasCellState) {
        store_lanes<T>(carry_c_ + r * l_.H + unit, dc_prev, kNative<T>, n);
        if (!Whole && hidden_)
          store_lanes<T>(at(hidden_, kOperand<T>, (row + r - a - c.begin) * l_.H + unit),
                         Cell::template hidden<Math<T>>(saved, cn), kOperand<T>, n);
      }
      saved_in += Cell::kSaved * U, dg += stride_;
    }
  }

  Workspace ws_;
  const BackwardArgs& f_;
  const Layer& l_;
  const int64_t R_, depth_, stride_, dh_stride_, RB_;
  const bool operand_;  // storage is the operands' type
  const Steps steps_;
  const int64_t rows_;
  const Plan plan_;
  const int64_t chunk_;
  WeightGrads<Cell, T> sums_;
  T *w_hh_, *w_hr_ = nullptr;        // packed [panel of R][words of G*H][2L]; [panel of H][words of P][2L]
  T *carry_h_, *carry_c_ = nullptr;  // (B, R), (B, H): gradients that reach the step before without W_hh
  T *dg_, *dg_next_,
      *scratch_;  // (chunk rows, GC*H); (B, GC*H) of the last step of the chunk before; a thread's (chunk rows, 2L)
  T *dh_ = nullptr, *hidden_ = nullptr;  // (chunk rows, P), (chunk rows, H): h's gradient and h before the projection
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
