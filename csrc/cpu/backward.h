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
        width_(GC * l_.H),
        RB_((R_ + W2 - 1) / W2),
        steps_(l_, ws_),
        rows_(steps_.rows()),
        plan_(make_plan<T>(l_, rows_, G, RB_)),
        chunk_(largest_chunk(l_, steps_, plan_.chunk_rows)),
        sums_(f, steps_, chunk_, plan_.threads, ws_) {
    w_hh_ = ws_.take<T>(RB_ * depth_ * W2);
    carry_h_ = ws_.take<T>(l_.B * R_);
    dg_ = ws_.take<T>(chunk_ * width_);
    dg_next_ = ws_.take<T>(l_.B * width_);
    scratch_ = ws_.take<T>(plan_.threads * chunk_ * W2);
    if (Cell::kHasCellState) carry_c_ = ws_.take<T>(l_.B * l_.H);
    if (l_.P) {
      w_hr_ = ws_.take<T>(blocks2(l_.H) * l_.P * W2);
      dh_ = ws_.take<T>(chunk_ * l_.P);
      if (f.dw_hr) hidden_ = ws_.take<T>(chunk_ * l_.H);
    }
  }

  int threads() const { return plan_.threads; }

  void operator()(const Member& m) const {
    prepare(m);
    sums_.prepare(m);
    m.sync();
    const RowShare mine(l_, plan_, m, kTileRows<2>);
    T* scratch = scratch_ + m.id * chunk_ * W2;
    const T* next = nullptr;  // dg of the step that ran just before, (rows, GC*H)
    int64_t next_t = -1;
    for_chunks(l_, steps_, plan_.chunk_rows, l_.reverse, [&](const Chunk& c) {
      for (int64_t s = 0; s < c.last - c.first; ++s) {
        const int64_t t = l_.reverse ? c.first + s : c.last - 1 - s;
        step(m, t, next_t, next, c, mine, scratch);
        next = dg_ + (steps_.offset(t) - c.begin) * width_;
        next_t = t;
      }
      if (plan_.split_rows) m.sync();
      keep_for_next_chunk(m, next, steps_.batch(next_t));
      next = dg_next_;
      sums_.add(m, c, dg_, dh_, hidden_, scratch);
    });
    step(m, -1, next_t, next, Chunk{}, mine, scratch);
    sums_.finish(m);
  }

 private:
  static int64_t blocks2(int64_t n) { return (n + W2 - 1) / W2; }

  void prepare(const Member& m) const {
    int64_t a, b;
    m.share(RB_, 1, a, b);
    for (int64_t k = 0; k < depth_; ++k) {
      const int64_t row = Cell::gate_of_h(int(k / l_.H)) * l_.H + k % l_.H;
      pack_row(w_hh_, depth_, k, at(f_.w.w_hh, l_.dtype, row * R_), l_.dtype, R_, a, b);
    }
    if (l_.P) {
      m.share(blocks2(l_.H), 1, a, b);
      for (int64_t k = 0; k < l_.P; ++k)
        pack_row(w_hr_, l_.P, k, at(f_.w.w_hr, l_.dtype, k * l_.H), l_.dtype, l_.H, a, b);
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
    std::memcpy(dg_next_ + a * width_, dg + a * width_, size_t((b - a) * width_) * sizeof(T));
  }

  // Step t given dg of the step `next_t` that ran before it (-1: none). t = -1: only what reaches hx and cx.
  void step(const Member& m, int64_t t, int64_t next_t, const T* next, const Chunk& c, const RowShare& mine,
            T* scratch) const {
    const int64_t batch = t < 0 ? 0 : steps_.batch(t), next_batch = next_t < 0 ? 0 : steps_.batch(next_t);
    const int64_t continuing = std::min(batch, next_batch);
    int64_t r0 = 0, r1 = RB_;
    if (!plan_.split_rows) m.share(RB_, 1, r0, r1);
    for (int64_t p = r0; p < r1; ++p) {
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
    panel_product<T, 2>(b - a, depth_, next + a * width_ + Cell::kGradH * l_.H, width_, w_hh_ + p * depth_ * W2,
                        (const T*)nullptr, scratch);
  }

  void leave(int64_t p, int64_t a, int64_t b, const T* scratch) const {
    for (int64_t r = a; r < b; ++r)
      for (int v = 0; v < 2; ++v) {
        const int64_t column = p * W2 + v * L, n = R_ - column;
        if (n <= 0) break;
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

  // dh of rows [a, b) and columns of block p is complete: on to the cell, or to the projection first
  void arrive(int64_t t, const Chunk& c, int64_t p, int64_t a, int64_t b, const T* scratch) const {
    for (int64_t r = a; r < b; ++r)
      for (int v = 0; v < 2; ++v) {
        const int64_t column = p * W2 + v * L, n = R_ - column;
        if (n <= 0) break;
        T* carry = carry_h_ + r * R_ + column;
        V dh = load_lanes<T>(carry, kNative<T>, n);
        if (scratch) dh += load(scratch + (r - a) * W2 + v * L);
        if (f_.dy.data) dh += load_lanes<T>(at(steps_.row(f_.dy, t, r), l_.dtype, column), l_.dtype, n);
        if (l_.P) {
          store_lanes<T>(dh_ + (steps_.offset(t) + r - c.begin) * l_.P + column, dh, kNative<T>, n);
          store_lanes<T>(carry, V{}, kNative<T>, n);
        } else {
          const V dh_prev = cell(t, c, r, column, dh);
          store_lanes<T>(carry, dh_prev, kNative<T>, n);
        }
      }
  }

  void through_projection(const Member& m, int64_t t, int64_t next_t, const Chunk& c, const RowShare& mine,
                          int64_t continuing, int64_t batch, int64_t next_batch, T* scratch) const {
    if (!plan_.split_rows) m.sync();
    int64_t p0 = 0, p1 = blocks2(l_.H);
    if (!plan_.split_rows) m.share(p1, 1, p0, p1);
    for (int64_t p = p0; p < p1; ++p) {
      if (next_t >= 0)
        mine.each(continuing, next_batch, [&](int64_t a, int64_t b) {
          for (int64_t r = a; r < b; ++r)
            for (int64_t unit = p * W2; unit < std::min(l_.H, (p + 1) * W2); unit += L) leave_c(r, unit);
        });
      mine.each(0, batch, [&](int64_t a, int64_t b) {
        panel_product<T, 2>(b - a, l_.P, dh_ + (steps_.offset(t) + a - c.begin) * l_.P, l_.P, w_hr_ + p * l_.P * W2,
                            (const T*)nullptr, scratch);
        for (int64_t r = a; r < b; ++r)
          for (int v = 0; v < 2; ++v)
            if (p * W2 + v * L < l_.H) cell(t, c, r, p * W2 + v * L, load(scratch + (r - a) * W2 + v * L));
      });
    }
  }

  // The epilogue: one vector of units of row r of step t. Writes dg and the carried dc, returns the direct part of
  // dh_{t-1}.
  V cell(int64_t t, const Chunk& c, int64_t r, int64_t unit, V dh) const {
    const int64_t n = l_.H - unit, block = unit / U, lane = unit % U, row = steps_.offset(t) + r;
    const int64_t before = steps_.before(t);
    const bool has_before = r < steps_.continuing(t);
    const T* reserve = static_cast<const T*>(f_.reserve);
    V saved[Cell::kSaved + 1], h{}, hp{}, cn{}, cp{}, dc{}, grad[GC], dh_prev{}, dc_prev{};
    const T* s = B_::saved_at(reserve, rows_, block, row) + lane;
    for (int i = 0; i < Cell::kSaved; ++i) saved[i] = load(s + i * U);
    if constexpr (Cell::kReadsH) h = load_lanes<T>(at(steps_.row(f_.y, t, r), l_.dtype, unit), l_.dtype, n);
    if constexpr (Cell::kReadsHPrev) {
      const void* p = has_before ? steps_.row(f_.y, before, r) : f_.hx ? at(f_.hx, l_.dtype, r * l_.H) : nullptr;
      if (p) hp = load_lanes<T>(at(p, l_.dtype, unit), l_.dtype, n);
    }
    if constexpr (Cell::kHasCellState) {
      cn = load(B_::c_at(reserve, rows_, l_.H, block, row) + lane);
      if (has_before)
        cp = load(B_::c_at(reserve, rows_, l_.H, block, steps_.offset(before) + r) + lane);
      else if (f_.cx)
        cp = load_lanes<T>(at(f_.cx, l_.dtype, r * l_.H + unit), l_.dtype, n);
      dc = load_lanes<T>(carry_c_ + r * l_.H + unit, kNative<T>, n);
    }
    Cell::template backward<Math<T>>(saved, h, hp, cn, cp, dh, dc, grad, dh_prev, dc_prev);
    const int64_t chunk_row = row - c.begin;
    for (int j = 0; j < GC; ++j) store_lanes<T>(dg_ + chunk_row * width_ + j * l_.H + unit, grad[j], kNative<T>, n);
    if constexpr (Cell::kHasCellState) {
      store_lanes<T>(carry_c_ + r * l_.H + unit, dc_prev, kNative<T>, n);
      if (hidden_)
        store_lanes<T>(hidden_ + chunk_row * l_.H + unit, Cell::template hidden<Math<T>>(saved, cn), kNative<T>, n);
    }
    return dh_prev;
  }

  Workspace ws_;
  const BackwardArgs& f_;
  const Layer& l_;
  const int64_t R_, depth_, width_, RB_;
  const Steps steps_;
  const int64_t rows_;
  const Plan plan_;
  const int64_t chunk_;
  WeightGrads<Cell, T> sums_;
  T *w_hh_, *w_hr_ = nullptr;        // packed [block of R][G*H][2L]; [block of H][P][2L]
  T *carry_h_, *carry_c_ = nullptr;  // (B, R), (B, H): gradients that reach the step before without W_hh
  T *dg_, *dg_next_, *scratch_;      // (chunk rows, GC*H); (B, GC*H) of the last step of the chunk before; a thread's
  T *dh_ = nullptr, *hidden_ = nullptr;  // (chunk rows, P), (chunk rows, H): h's gradient and h before the projection
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
