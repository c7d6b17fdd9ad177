// The forward pass of one layer and direction.
//
// Time runs in chunks. A chunk's input projection gx = W_ih x + b_ih is one large product; then its steps run one after
// the other, each as gh = W_hh h_{t-1} + b_hh with the cell as epilogue. Units are handled in blocks of U, all gates of
// a block side by side.
#pragma once
#include "math.h"
#include "sequence.h"
#include "weights.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

// One part of the batch. Its members split the units.
template <class Cell, class T>
class ForwardPart {
  using B_ = Blocks<Cell, T>;
  using V = Vec<T>;
  using Block = typename B_::Block;
  static constexpr int L = B_::L, G = B_::G, UV = B_::UV;
  static constexpr int64_t U = B_::U, W = B_::W;

 public:
  ForwardPart(const ForwardArgs& f, const Plan& plan, const GateWeights<Cell, T>& weights, const Steps& steps,
              int members, Workspace& ws)
      : f_(f),
        l_(f.layer),
        weights_(weights),
        steps_(steps),
        R_(l_.R()),
        NB_(B_::count(l_.H)),
        chunks_(steps_, plan.chunk_rows),
        chunk_(chunks_.rows()),
        scratch_size_((steps_.B() + 1) * (W > 2 * L ? W : 2 * L)),
        x_stride_(l_.B == 1 && !l_.batch_sizes ? f.x.step : steps_.stride(f.x)),
        operand_(l_.dtype == kOperand<T>),
        gather_(!operand_ || (steps_.whole() && !steps_.uniform(f.x)) || splits_words(l_.I, x_stride_) ||
                (steps_.rows() > 1 && collides(l_.dtype, x_stride_))),
        copy_h_(!operand_ || splits_words(R_, steps_.stride(f.y)) ||
                (steps_.B() > 1 && collides(l_.dtype, steps_.stride(f.y)))) {
    gx_ = ws.take<T>(NB_ * chunk_ * W);
    scratch_ = ws.take<T>(members * (kHalves * scratch_size_ + weights.scratch()));
    h0_ = ws.take<T>(steps_.B() * spread(R_));
    if (gather_) x_ = ws.take<T>(chunk_ * spread(l_.I));
    if (copy_h_) ring_ = ws.take<T>(2 * steps_.B() * spread(R_));
    if (Cell::kHasCellState) c_ = ws.take<T>(NB_ * steps_.B() * U);
    if (l_.P) hidden_ = ws.take<T>(steps_.B() * spread(l_.H));
  }

  void operator()(const Member& m) const {
    prepare(m);
    m.sync();
    int64_t u0, u1;
    m.share(NB_, 1, u0, u1);
    T* scratch = scratch_ + m.id * (kHalves * scratch_size_ + weights_.scratch());
    chunks_.each(!l_.reverse, [&](const Chunk& c) {
      project(m, c, u0, u1, scratch);
      for (int64_t s = 0; s < c.last - c.first; ++s)
        step(m, l_.reverse ? c.last - 1 - s : c.first + s, c, u0, u1, scratch);
      if (gather_) m.sync();  // before x is written again; gx is a member's own
    });
    finish(m);
  }

 private:
  static constexpr int64_t spread(int64_t columns) { return spread_stride<T>(words(columns)); }
  // Whether rows of so many values cannot be read as words in place: they end within a word or, where a panel is read
  // beside them, before that does.
  bool splits_words(int64_t columns, int64_t stride) const {
    return kPairs && (columns % 2 || stride % 2 || (weights_.packed() && panel_words(columns) != words(columns)));
  }
  static constexpr int64_t kPerWord = kPairs ? 2 : 1;
  // Of the scratch: with matrix tiles a block's product runs beside the cells of the block before, so many rows at a time,
  // which was found by trying (docs/benchmarks-intel.md). A cell of one gate has too little to do.
  static constexpr bool kBeside = kMatrixTiles && G > 1;
  static constexpr int64_t kHalves = kBeside ? 2 : 1, kTogether = Cell::kHasCellState ? 8 : 2;

  // What follows the product of a unit block and of one step's rows from `first` on: their cells, some at a time.
  struct Epilogue {
    const ForwardPart* part;
    int64_t t;
    const Chunk* c;
    Block u;
    int64_t first;
    const T* h;  // h_{t-1}: (rows of the step, R)
    int64_t h_stride;
    bool from_step;
    const T* gh;  // [row - first][gate][unit]
    template <bool Whole, bool Divides>
    FASTRNN_INLINE void run(int64_t rows) {
      part->template cells<Whole, Divides>(t, *c, u, first, first + rows, h, h_stride, from_step, gh);
    }
    void operator()(int64_t rows) {
      const bool whole = part->operand_ && u.units == U && !part->l_.P;
      if (part->divides_)
        whole ? run<true, kApproximates>(rows) : run<false, kApproximates>(rows);
      else
        whole ? run<true, false>(rows) : run<false, false>(rows);
      first += rows, gh += rows * u.width();
    }
  };

  void prepare(const Member& m) const {
    int64_t a, b;
    m.share(gather_ ? chunk_ : 0, 1, a, b);
    for (int64_t r = a; r < b; ++r) clear_behind(x_ + r * spread(l_.I), l_.I, spread(l_.I));
    m.share(steps_.B(), 1, a, b);
    for (int64_t r = a; r < b; ++r) {
      const int64_t given = steps_.in_batch(r);
      T* h0 = h0_ + r * spread(R_);
      clear_behind(h0, R_, spread(R_));
      if (f_.hx)
        load_operand_row(h0, at(f_.hx, l_.dtype, given * R_), l_.dtype, R_);
      else
        std::fill(h0, h0 + words(R_), T(0));
      for (int64_t i = 0; copy_h_ && i < 2; ++i)
        clear_behind(ring_ + (i * steps_.B() + r) * spread(R_), R_, spread(R_));
      if (l_.P) clear_behind(hidden_ + r * spread(l_.H), l_.H, spread(l_.H));
      if constexpr (Cell::kHasCellState)
        for (int64_t unit = 0; unit < NB_ * U; unit += L)
          store(c_at(r, unit), f_.cx && unit < l_.H
                                   ? load_lanes<T>(at(f_.cx, l_.dtype, given * l_.H + unit), l_.dtype, l_.H - unit)
                                   : V{});
    }
  }

  // initial (training) or running (inference) cell state of a unit block: [block][B][U]
  T* c_at(int64_t row, int64_t unit) const { return c_ + (unit / U * steps_.B() + row) * U + unit % U; }

  // gx [block][row of the chunk][gate][unit] = W_ih x + b_ih: of all rows of the chunk at once where they lie at one
  // distance, else step by step
  void project(const Member& m, const Chunk& c, int64_t u0, int64_t u1, T* scratch) const {
    const auto rows = [&](const T* x, int64_t stride, int64_t row, int64_t n) {
      for (int64_t u = u0; n && u < u1; ++u) {
        const Block b = weights_.block(u);
        weights_.input(b, u + 1 < u1 ? u + 1 : -1, n, x, stride, scratch + kHalves * scratch_size_,
                       gx_ + u * chunk_ * W + row * b.width());
      }
    };
    if (gather_) {
      for (int64_t t = c.first; t < c.last; ++t) {
        int64_t a, b;
        m.share(steps_.batch(t), 1, a, b);
        for (int64_t r = a; r < b; ++r)
          load_operand_row(x_ + (steps_.offset(t) - c.begin + r) * spread(l_.I), steps_.row(f_.x, t, r), l_.dtype,
                           l_.I);
      }
      m.sync();
      return rows(x_, spread(l_.I), 0, c.rows);
    }
    const auto x = [&](int64_t t) { return static_cast<const T*>(steps_.row(f_.x, t, 0)); };
    if (steps_.uniform(f_.x)) return rows(x(c.first), x_stride_ / kPerWord, 0, c.rows);
    for (int64_t t = c.first; t < c.last; ++t)
      rows(x(t), x_stride_ / kPerWord, steps_.offset(t) - c.begin, steps_.batch(t));
  }

  void step(const Member& m, int64_t t, const Chunk& c, int64_t u0, int64_t u1, T* scratch) const {
    const int64_t batch = steps_.batch(t), continuing = steps_.continuing(t);
    int64_t stride;
    const T* h_prev = previous_h(t, stride);
    T *const apart = scratch + kHalves * scratch_size_, *gh = scratch;
    Epilogue waiting;
    Beside beside;
    const auto end = [&](const Block& u, int64_t a, int64_t b, const T* h, int64_t h_stride, bool from_step) {
      Epilogue own{this, t, &c, u, a, h, h_stride, from_step, gh};
      if constexpr (kBeside) {
        beside.finish();
        waiting = own;
        beside = Beside(waiting, b - a, kTogether);
        gh = gh == scratch ? scratch + scratch_size_ : scratch;
      } else {
        own(b - a);
      }
    };
    for (int64_t i = u0; i < u1; ++i) {
      // to and fro, so that a step begins with the weights that the one before has left in the cache
      const auto nth = [&](int64_t n) { return t & 1 ? u0 + u1 - 1 - n : n; };
      const Block u = weights_.block(nth(i));
      if (continuing) {
        weights_.recurrent(u, i + 1 < u1 ? nth(i + 1) : -1, continuing, h_prev, stride, apart, gh, &beside);
        end(u, 0, continuing, h_prev, stride, true);
      }
      if (continuing < batch) {
        weights_.recurrent_first(u, batch - continuing, h0_ + continuing * spread(R_), spread(R_), apart, gh, &beside);
        end(u, continuing, batch, h0_, spread(R_), false);
      }
    }
    if constexpr (kBeside) beside.finish();
    if (l_.P) {
      m.sync();
      int64_t p0, p1;
      m.share(panels<T>(l_.P), 1, p0, p1);
      for (int64_t p = p0; p < p1 && batch; ++p) {
        weights_.projection(p, batch, hidden_, spread(l_.H), scratch);
        for (int64_t r = 0; r < batch; ++r)
          for (int64_t column = p * 2 * L, v = 0; v < panel_vectors<T>(l_.P, p); ++v, column += L)
            put_h(t, r, column, load(scratch + (r * 2 + v) * L));
      }
    }
    m.sync();
  }

  // h of the step before t, as operand rows: (rows, R)
  const T* previous_h(int64_t t, int64_t& stride) const {
    const int64_t p = steps_.before(t);
    stride = p < 0 || copy_h_ ? spread(R_) : steps_.stride(f_.y) / kPerWord;
    if (p < 0) return h0_;
    return copy_h_ ? ring_ + (p & 1) * steps_.B() * stride : static_cast<const T*>(steps_.row(f_.y, p, 0));
  }

  void put_h(int64_t t, int64_t row, int64_t column, V h) const {
    store_lanes<T>(at(steps_.row_out(f_.y, t, row), l_.dtype, column), h, l_.dtype, R_ - column);
    if (copy_h_)
      store_lanes<T>(at(ring_ + ((t & 1) * steps_.B() + row) * spread(R_), kOperand<T>, column), h, kOperand<T>,
                     R_ - column);
  }

  // The epilogue: the cell on rows [a, b) of one unit block; gh [row - a][gate][unit]. Whole: a full block whose h
  // becomes y as it is, in the type of the operands, the common case, without a question in the loop.
  template <bool Whole, bool Divides>
  void cells(int64_t t, const Chunk& c, const Block& u, int64_t a, int64_t b, const T* h_prev, int64_t h_stride,
             bool from_step, const T* gh_row) const {
    const int64_t width = Whole ? W : u.width(), pitch = Whole ? U : u.pitch;
    const T* gx_row = gx_ + u.index * chunk_ * W + (steps_.offset(t) - c.begin + a) * width;
    constexpr DType d = kOperand<T>;
    const T* h_in = h_prev + a * h_stride;
    void* y = Whole ? at(steps_.row_out(f_.y, t, a), d, u.first()) : nullptr;
    T* ring = copy_h_ ? ring_ + ((t & 1) * steps_.B() + a) * spread(R_) : nullptr;
    T* const reserve = static_cast<T*>(f_.reserve);
    const int64_t all = steps_.all_rows(), row = steps_.in_reserve(t, a), y_stride = steps_.stride(f_.y),
                  pitch_rows = U * steps_.reserve_pitch();
    T* saved_out = reserve ? B_::saved_at(reserve, all, u.index, row) : nullptr;
    const int64_t saved_stride = reserve ? Cell::kSaved * pitch_rows : 0;
    T *c_out = nullptr, *c_in = nullptr;
    int64_t c_out_stride = U, c_in_stride = U;
    if constexpr (Cell::kHasCellState) {
      c_out = c_in = c_at(a, u.first());
      if (reserve) c_out = B_::c_at(reserve, all, l_.H, u.index, row), c_out_stride = pitch_rows;
      if (reserve && from_step)
        c_in = B_::c_at(reserve, all, l_.H, u.index, steps_.in_reserve(steps_.before(t), a)),
        c_in_stride = c_out_stride;
    }
    for (int64_t r = a; r < b; ++r) {
      for (int v = 0; v < UV; ++v) {
        const int64_t n = Whole ? L : u.units - v * L;
        if (n <= 0) break;
        V gx[G], gh[G], saved[Cell::kSaved + 1], hp{}, cp{}, h, cn{};
        for (int g = 0; g < G; ++g) {
          gx[g] = load(gx_row + g * pitch + v * L);
          gh[g] = load(gh_row + g * pitch + v * L);
        }
        const int64_t unit = u.first() + v * L;
        if constexpr (Cell::kReadsHPrev) hp = load_lanes<T>(at(h_in, d, unit), d, n);
        if constexpr (Cell::kHasCellState) cp = load(c_in + v * L);
        Cell::template forward<Math<T, Divides>>(gx, gh, hp, cp, h, cn, saved);
        if constexpr (Cell::kHasCellState) store(c_out + v * L, cn);
        if (reserve)
          for (int i = 0; i < Cell::kSaved; ++i) store(saved_out + i * U + v * L, saved[i]);
        if constexpr (Whole) {
          store_lanes<T>(at(y, d, v * L), h, d, L);
          if (copy_h_) store_lanes<T>(at(ring, d, unit), h, d, L);
        } else if (l_.P) {
          store_lanes<T>(at(hidden_ + r * spread(l_.H), d, unit), h, d, n);
        } else {
          put_h(t, r, unit, h);
        }
      }
      gx_row += width, gh_row += width, h_in += h_stride, saved_out += saved_stride;
      if constexpr (Cell::kHasCellState) c_in += c_in_stride, c_out += c_out_stride;
      if constexpr (Whole) y = at(y, d, y_stride), ring += copy_h_ ? spread(R_) : 0;
    }
  }

  // h_n and c_n: every row's last step in running order
  void finish(const Member& m) const {
    int64_t a, b;
    m.share(steps_.B(), 1, a, b);
    int64_t t = l_.reverse ? 0 : l_.T - 1;
    for (int64_t r = a; r < b; ++r) {
      while (steps_.batch(t) <= r) --t;
      const int64_t given = steps_.in_batch(r);
      if (f_.h_n != f_.y.data)
        std::memcpy(at(f_.h_n, l_.dtype, given * R_), steps_.row(f_.y, t, r), size_t(R_ * size_of(l_.dtype)));
      if constexpr (Cell::kHasCellState)
        for (int64_t unit = 0; unit < l_.H; unit += L) {
          const T* c = f_.reserve ? B_::c_at(static_cast<const T*>(f_.reserve), steps_.all_rows(), l_.H, unit / U,
                                             steps_.in_reserve(t, r)) +
                                        unit % U
                                  : c_at(r, unit);
          store_lanes<T>(at(f_.c_n, l_.dtype, given * l_.H + unit), load(c), l_.dtype, l_.H - unit);
        }
    }
  }

  const ForwardArgs& f_;
  const Layer& l_;
  const GateWeights<Cell, T>& weights_;
  const Steps steps_;
  const int64_t R_, NB_;
  const Chunks chunks_;
  const int64_t chunk_, scratch_size_;
  const int64_t x_stride_;                // of rows that are read in place
  const bool operand_, gather_, copy_h_;  // storage is the operands' type; x is copied before use; and so is h
  const bool divides_ = kApproximates && machine().fast_division;
  T *gx_, *scratch_;      // [block][chunk row][gate][unit]; a member's halves of [row][gate][unit], and the weights'
  T *h0_, *c_ = nullptr;  // (B, R); [block][B][U]
  T* x_ = nullptr;        // (chunk rows, I): x where it cannot be an operand in place
  T* ring_ = nullptr;     // 2 x (B, R): h of the last two steps where y cannot be
  T* hidden_ = nullptr;   // (B, H): h before the projection; rows of all these at spread strides
};

template <class Cell, class T>
class Forward {
  using B_ = Blocks<Cell, T>;

 public:
  explicit Forward(const ForwardArgs& f)
      : begins_(step_begins(f.layer, ws_)),
        all_(f.layer, begins_, ws_),
        plan_(make_plan<T>(Pass::forward, f.layer, all_.rows(), B_::G, B_::count(f.layer.H))),
        weights_(f, plan_, all_.rows(), all_.uniform(f.x), ws_),
        parts_(plan_, ws_, [&](ForwardPart<Cell, T>* memory, int part, int parts) {
          new (memory) ForwardPart<Cell, T>(f, plan_, weights_, Steps(f.layer, begins_, ws_, part, parts, true),
                                            parts == 1 ? plan_.threads : 1, ws_);
        }) {
    prefer_huge_pages(f.y.data, all_.rows() * f.layer.R() * size_of(f.layer.dtype));
    if (!f.reserve) return;
    prefer_huge_pages(f.reserve, B_::reserve_size(all_.rows(), f.layer.H) * int64_t(sizeof(T)));
    B_::set_saved_parts(static_cast<T*>(f.reserve), all_.rows(), f.layer.H, plan_.parts);
  }

  const Plan& plan() const { return plan_; }
  bool packed() const { return weights_.packed(); }

  void operator()(const Member& m) const {
    const MatrixTiles tiles;
    weights_.prepare(m);
    parts_.each(m, [](const ForwardPart<Cell, T>& part, const Member& own) { part(own); });
  }

 private:
  Workspace ws_;
  const int64_t* begins_;
  const Steps all_;
  const Plan plan_;
  const GateWeights<Cell, T> weights_;
  const Parts<ForwardPart<Cell, T>> parts_;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
