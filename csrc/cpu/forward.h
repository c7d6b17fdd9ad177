// The forward pass of one layer and direction.
//
// Time runs in chunks. A chunk's input projection gx = W_ih x + b_ih is one large product; then its steps run one after
// the other, each as gh = W_hh h_{t-1} + b_hh with the cell as epilogue. Units are handled in blocks of U, all gates of
// a block side by side.
#pragma once
#include "half.h"
#include "math.h"
#include "sequence.h"
#include "tile.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

template <class Cell, class T>
class Forward {
  using B_ = Blocks<Cell, T>;
  using V = Vec<T>;
  static constexpr int L = B_::L, G = B_::G, UV = B_::UV, NV = B_::NV;
  static constexpr int64_t U = B_::U, W = B_::W;
  static constexpr bool kTakesHalf = sizeof(T) == 4 && !kPairs;
  static constexpr int64_t kUnpackedRows = 4;  // up to so many rows in all, weights are read as they lie

 public:
  explicit Forward(const ForwardArgs& f)
      : f_(f),
        l_(f.layer),
        R_(l_.R()),
        NB_(B_::count(l_.H)),
        steps_(l_, ws_),
        rows_(steps_.rows()),
        plan_(make_plan<T>(l_, rows_, G, NB_)),
        chunk_(largest_chunk(l_, steps_, plan_.chunk_rows)),
        x_stride_(l_.B == 1 && !l_.batch_sizes ? f.x.step : f.x.row),
        operand_(l_.dtype == kOperand<T>),
        gather_(!operand_ || !steps_.uniform(f.x) || splits_words(l_.I, x_stride_) ||
                (rows_ > 1 && collides(l_.dtype, x_stride_))),
        copy_h_(!operand_ || splits_words(R_, f.y.row) || (l_.B > 1 && collides(l_.dtype, f.y.row))),
        half_(kTakesHalf ? static_cast<const uint32_t*>(f.w.half) : nullptr),
        packed_(half_ || !operand_ || rows_ > kUnpackedRows) {
    if (packed_ && !half_) {
      w_ih_ = ws_.take<T>(NB_ * words(l_.I) * W);
      w_hh_ = ws_.take<T>(NB_ * words(R_) * W);
    }
    if (half_ && rows_ >= kExpandedRows) wide_ = ws_.take<T>(plan_.threads * std::max(l_.I, R_) * W);
    b_ih_ = ws_.take<T>(NB_ * W);
    b_hh_ = ws_.take<T>(NB_ * W);
    gx_ = ws_.take<T>(NB_ * chunk_ * W);
    scratch_ = ws_.take<T>(plan_.threads * scratch_size());
    h0_ = ws_.take<T>(l_.B * spread(R_));
    if (gather_) x_ = ws_.take<T>(chunk_ * spread(l_.I));
    if (copy_h_) ring_ = ws_.take<T>(2 * l_.B * spread(R_));
    if (Cell::kHasCellState) c_ = ws_.take<T>(NB_ * l_.B * U);
    if (l_.P) {
      w_hr_ = ws_.take<T>(panels<T>(l_.P) * words(l_.H) * 2 * L);
      hidden_ = ws_.take<T>(l_.B * spread(l_.H));
    }
    prefer_huge_pages(f.y.data, rows_ * R_ * size_of(l_.dtype));
    if (f.reserve) prefer_huge_pages(f.reserve, B_::reserve_size(rows_, l_.H) * int64_t(sizeof(T)));
  }

  const Plan& plan() const { return plan_; }
  bool packed() const { return packed_; }

  void operator()(const Member& m) const {
    int64_t u0, u1;
    m.share(NB_, 1, u0, u1);
    prepare(m, u0, u1);
    if (plan_.split_rows) u0 = 0, u1 = NB_;
    m.sync();
    T* scratch = scratch_ + m.id * scratch_size();
    for_chunks(l_, steps_, plan_.chunk_rows, !l_.reverse, [&](const Chunk& c) {
      project(m, c, u0, u1);
      for (int64_t s = 0; s < c.last - c.first; ++s)
        step(m, l_.reverse ? c.last - 1 - s : c.first + s, c, u0, u1, scratch);
      // Before gx and x are written again. The rows of a dense batch lie alike in each chunk, so that a thread's gx is its own.
      if (plan_.split_rows ? l_.batch_sizes != nullptr : gather_) m.sync();
    });
    m.sync();
    finish(m);
  }

 private:
  using Block = typename B_::Block;
  Block block(int64_t index) const { return B_::at(index, l_.H, packed_); }
  static constexpr int64_t spread(int64_t columns) { return spread_stride<T>(words(columns)); }
  // Whether rows of so many values cannot be read as words in place.
  static bool splits_words(int64_t columns, int64_t stride) { return kPairs && (columns % 2 || stride % 2); }
  static constexpr int64_t kPerWord = kPairs ? 2 : 1;
  int64_t scratch_size() const { return (l_.B + 1) * (W > 2 * L ? W : 2 * L); }

  void prepare(const Member& m, int64_t u0, int64_t u1) const {
    for (int64_t u = u0; u < u1; ++u) {
      const Block b = block(u);
      if (packed_ && !half_) {
        pack_weights(w_ih_, f_.w.w_ih, l_.I, b);
        pack_weights(w_hh_, f_.w.w_hh, R_, b);
      }
      pack_bias(b_ih_ + u * W, f_.w.b_ih, b);
      pack_bias(b_hh_ + u * W, f_.w.b_hh, b);
    }
    int64_t a, b;
    m.share(l_.B, 1, a, b);
    for (int64_t r = a; r < b; ++r) {
      T* h0 = h0_ + r * spread(R_);
      if (f_.hx)
        load_operand_row(h0, at(f_.hx, l_.dtype, r * R_), l_.dtype, R_);
      else
        std::fill(h0, h0 + words(R_), T(0));
      if (copy_h_ && R_ % kPerWord)  // no word of h may have half a NaN left in it
        for (int64_t i = 0; i < 2; ++i) ring_[(i * l_.B + r) * spread(R_) + words(R_) - 1] = T(0);
      if (l_.P && l_.H % kPerWord) hidden_[r * spread(l_.H) + words(l_.H) - 1] = T(0);
      if constexpr (Cell::kHasCellState)
        for (int64_t unit = 0; unit < NB_ * U; unit += L)
          store(c_at(r, unit), f_.cx && unit < l_.H
                                   ? load_lanes<T>(at(f_.cx, l_.dtype, r * l_.H + unit), l_.dtype, l_.H - unit)
                                   : V{});
    }
    if (l_.P) {
      m.share(panels<T>(l_.P), 1, a, b);
      for (int64_t p = a; p < b; ++p)
        pack_panel(w_hr_ + p * words(l_.H) * 2 * L, panel_vectors<T>(l_.P, p), l_.dtype, l_.H, [&](int64_t j) {
          const int64_t row = p * 2 * L + j;
          return row < l_.P ? at(f_.w.w_hr, l_.dtype, row * l_.H) : nullptr;
        });
    }
  }

  void pack_weights(T* dst, const void* w, int64_t K, const Block& b) const {
    pack_panel(dst + b.index * words(K) * W, b.vectors, l_.dtype, K, [&](int64_t j) {
      const auto c = B_::column(b, j);
      return c.unit < 0 ? nullptr : at(w, l_.dtype, (c.gate * l_.H + c.unit) * K);
    });
  }

  void pack_bias(T* dst, const void* bias, const Block& b) const {
    std::fill(dst, dst + b.width(), T(0));
    if (bias)
      for (int64_t g = 0; g < G; ++g)
        load_row(dst + g * b.pitch, at(bias, l_.dtype, g * l_.H + b.first()), l_.dtype, b.units);
  }

  // initial (training) or running (inference) cell state of a unit block: [block][B][U]
  T* c_at(int64_t row, int64_t unit) const { return c_ + (unit / U * l_.B + row) * U + unit % U; }

  // gx [block][row of the chunk][gate][unit] = W_ih x + b_ih. Split by rows, a thread projects the rows that are its own, step
  // by step, and shares nothing; split by units, it projects all rows of the chunk onto its units at once.
  void project(const Member& m, const Chunk& c, int64_t u0, int64_t u1) const {
    const auto rows = [&](int64_t t, int64_t a, int64_t b) {
      const int64_t row = steps_.offset(t) - c.begin + a;
      const T* x = gather_ ? x_ + row * spread(l_.I) : static_cast<const T*>(steps_.row(f_.x, t, a));
      for (int64_t u = u0; u < u1; ++u) {
        const Block block_u = block(u);
        product(m, block_u, b - a, l_.I, x, gather_ ? spread(l_.I) : x_stride_ / kPerWord, w_ih_, f_.w.w_ih,
                b_ih_ + u * W, gx_ + u * chunk_ * W + row * block_u.width());
      }
    };
    const auto gather = [&](int64_t t, int64_t a, int64_t b) {
      for (int64_t r = a; r < b; ++r)
        load_operand_row(x_ + (steps_.offset(t) - c.begin + r) * spread(l_.I), steps_.row(f_.x, t, r), l_.dtype, l_.I);
    };
    for (int64_t t = c.first; t < c.last; ++t) {
      if (plan_.split_rows) {
        RowShare(plan_, m, steps_.batch(t)).each(0, steps_.batch(t), [&](int64_t a, int64_t b) {
          if (gather_) gather(t, a, b);
          rows(t, a, b);
        });
      } else if (gather_) {
        int64_t a, b;
        m.share(steps_.batch(t), 1, a, b);
        gather(t, a, b);
      }
    }
    if (plan_.split_rows) return;
    if (gather_) m.sync();
    rows(c.first, 0, c.rows);
  }

  // out (rows, gate, unit) = bias + a (rows, K values) * one unit block of the gate weights, from their panels if packed
  void product(const Member& m, const Block& b, int64_t rows, int64_t K, const T* a, int64_t stride, const T* panels,
               const void* weights, const T* bias, T* out) const {
    if constexpr (kTakesHalf)
      if (half_) {
        const int64_t matrix = weights == f_.w.w_ih ? 0 : half_size<Cell>(l_.H, l_.I);
        const uint32_t* panel = half_ + matrix + b.index * half_words(K) * W;
        if (rows < kExpandedRows) return half_gate_product<NV>(b.vectors, rows, K, a, stride, panel, bias, out);
        T* wide = wide_ + m.id * std::max(l_.I, R_) * W;
        expand_half(panel, b.vectors, K, wide);
        return gate_product<NV>(b.vectors, rows, K, a, stride, wide, bias, out);
      }
    if (packed_)
      return gate_product<NV>(b.vectors, rows, words(K), a, stride, panels + b.index * words(K) * W, bias, out);
    int64_t n[NV];  // vectors of one panel: the gates, or a one-gate cell's neighbouring units
    for (int j = 0; j < NV; ++j) n[j] = b.units - (G == 1 ? j * L : 0);
    unpacked_product<T, NV>(rows, K, a, stride, at(weights, kOperand<T>, b.first() * K), G == 1 ? L : l_.H, n, bias,
                            out);
  }

  template <int N>
  static void gate_product(int vectors, int64_t rows, int64_t K, const T* a, int64_t stride, const T* panel,
                           const T* bias, T* out) {
    if constexpr (N > 1)
      if (vectors < N) return gate_product<N - 1>(vectors, rows, K, a, stride, panel, bias, out);
    panel_product<T, N>(rows, K, a, stride, panel, bias, out);
  }

  template <int N>
  static void half_gate_product(int vectors, int64_t rows, int64_t K, const float* a, int64_t stride,
                                const uint32_t* panel, const float* bias, float* out) {
    if constexpr (N > 1)
      if (vectors < N) return half_gate_product<N - 1>(vectors, rows, K, a, stride, panel, bias, out);
    half_product<N>(rows, K, a, stride, panel, bias, out);
  }

  void step(const Member& m, int64_t t, const Chunk& c, int64_t u0, int64_t u1, T* scratch) const {
    const int64_t batch = steps_.batch(t), continuing = steps_.continuing(t), before = steps_.before(t);
    const RowShare mine(plan_, m, batch);
    if (plan_.split_rows && before >= 0 && steps_.batch(before) != batch) m.sync();  // rows change hands
    int64_t stride;
    const T* h_prev = previous_h(t, stride);
    for (int64_t i = u0; i < u1; ++i) {
      // to and fro, so that a step begins with the weights that the one before has left in the cache
      const Block u = block(t & 1 ? u0 + u1 - 1 - i : i);
      const auto rows = [&](int64_t a, int64_t b, const T* h, int64_t h_stride, bool from_step) {
        product(m, u, b - a, R_, h + a * h_stride, h_stride, w_hh_, f_.w.w_hh, b_hh_ + u.index * W, scratch);
        if (operand_ && u.units == U && !l_.P)
          cells<true>(t, c, u, a, b, h, h_stride, from_step, scratch);
        else
          cells<false>(t, c, u, a, b, h, h_stride, from_step, scratch);
      };
      mine.each(0, continuing, [&](int64_t a, int64_t b) { rows(a, b, h_prev, stride, true); });
      mine.each(continuing, batch, [&](int64_t a, int64_t b) { rows(a, b, h0_, spread(R_), false); });
    }
    if (l_.P) {
      if (!plan_.split_rows) m.sync();
      int64_t p0 = 0, p1 = panels<T>(l_.P);
      if (!plan_.split_rows) m.share(p1, 1, p0, p1);
      mine.each(0, batch, [&](int64_t a, int64_t b) {
        for (int64_t p = p0; p < p1; ++p) {
          plain_product(b - a, words(l_.H), hidden_ + a * spread(l_.H), spread(l_.H), w_hr_, l_.P, p, scratch, 2 * L);
          for (int64_t r = a; r < b; ++r)
            for (int64_t column = p * 2 * L, v = 0; v < panel_vectors<T>(l_.P, p); ++v, column += L)
              put_h(t, r, column, load(scratch + ((r - a) * 2 + v) * L));
        }
      });
    }
    if (!plan_.split_rows) m.sync();
  }

  // h of the step before t, as operand rows: (rows, R)
  const T* previous_h(int64_t t, int64_t& stride) const {
    const int64_t p = steps_.before(t);
    stride = p < 0 || copy_h_ ? spread(R_) : f_.y.row / kPerWord;
    if (p < 0) return h0_;
    return copy_h_ ? ring_ + (p & 1) * l_.B * stride : static_cast<const T*>(steps_.row(f_.y, p, 0));
  }

  void put_h(int64_t t, int64_t row, int64_t column, V h) const {
    store_lanes<T>(at(steps_.row_out(f_.y, t, row), l_.dtype, column), h, l_.dtype, R_ - column);
    if (copy_h_)
      store_lanes<T>(at(ring_ + ((t & 1) * l_.B + row) * spread(R_), kOperand<T>, column), h, kOperand<T>, R_ - column);
  }

  // The epilogue: the cell on rows [a, b) of one unit block; gh [row - a][gate][unit]. Whole: a full block whose h becomes y
  // as it is, in the type of the operands, the common case, without a question in the loop.
  template <bool Whole>
  void cells(int64_t t, const Chunk& c, const Block& u, int64_t a, int64_t b, const T* h_prev, int64_t h_stride,
             bool from_step, const T* gh_row) const {
    const int64_t row = steps_.offset(t) + a, width = Whole ? W : u.width(), pitch = Whole ? U : u.pitch;
    const T* gx_row = gx_ + u.index * chunk_ * W + (row - c.begin) * width;
    constexpr DType d = kOperand<T>;
    const T* h_in = h_prev + a * h_stride;
    void* y = Whole ? at(steps_.row_out(f_.y, t, a), d, u.first()) : nullptr;
    T* ring = copy_h_ ? ring_ + ((t & 1) * l_.B + a) * spread(R_) : nullptr;
    T* const reserve = static_cast<T*>(f_.reserve);
    T* saved_out = reserve ? B_::saved_at(reserve, rows_, u.index, row) : nullptr;
    T *c_out = nullptr, *c_in = nullptr;
    if constexpr (Cell::kHasCellState) {
      T* running = c_at(a, u.first());
      c_out = reserve ? B_::c_at(reserve, rows_, l_.H, u.index, row) : running;
      c_in =
          reserve && from_step ? B_::c_at(reserve, rows_, l_.H, u.index, steps_.offset(steps_.before(t)) + a) : running;
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
        Cell::template forward<Math<T>>(gx, gh, hp, cp, h, cn, saved);
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
      gx_row += width, gh_row += width, h_in += h_stride, saved_out += reserve ? Cell::kSaved * U : 0;
      if constexpr (Cell::kHasCellState) c_in += U, c_out += U;
      if constexpr (Whole) y = at(y, d, f_.y.row), ring += copy_h_ ? spread(R_) : 0;
    }
  }

  // h_n and c_n: every row's last step in running order
  void finish(const Member& m) const {
    int64_t a, b;
    m.share(l_.B, 1, a, b);
    int64_t t = l_.reverse ? 0 : l_.T - 1;
    for (int64_t r = a; r < b; ++r) {
      while (steps_.batch(t) <= r) --t;
      if (f_.h_n != f_.y.data)
        std::memcpy(at(f_.h_n, l_.dtype, r * R_), steps_.row(f_.y, t, r), size_t(R_ * size_of(l_.dtype)));
      if constexpr (Cell::kHasCellState)
        for (int64_t unit = 0; unit < l_.H; unit += L) {
          const T* c =
              f_.reserve
                  ? B_::c_at(static_cast<const T*>(f_.reserve), rows_, l_.H, unit / U, steps_.offset(t) + r) + unit % U
                  : c_at(r, unit);
          store_lanes<T>(at(f_.c_n, l_.dtype, r * l_.H + unit), load(c), l_.dtype, l_.H - unit);
        }
    }
  }

  Workspace ws_;
  const ForwardArgs& f_;
  const Layer& l_;
  const int64_t R_, NB_;
  const Steps steps_;
  const int64_t rows_;
  const Plan plan_;
  const int64_t chunk_;
  const int64_t x_stride_;                // of rows that are read in place
  const bool operand_, gather_, copy_h_;  // storage is the operands' type; x is copied before use; and so is h
  const uint32_t* half_;                  // the weights as bf16 words, or null
  const bool packed_;                     // the weights are
  T *w_ih_ = nullptr, *w_hh_ = nullptr;   // [block][word of k][gate][unit]
  T* w_hr_ = nullptr;                     // [panel][word of k][2L]
  T* wide_ = nullptr;                     // a thread\'s [k][gate][unit]: one block of half_, expanded
  T *b_ih_, *b_hh_;                       // [block][gate][unit]
  T *gx_, *scratch_;                      // [block][chunk row][gate][unit]; a thread's [row][gate][unit]
  T *h0_, *c_ = nullptr;                  // (B, R); [block][B][U]
  T* x_ = nullptr;                        // (chunk rows, I): x where it cannot be an operand in place
  T* ring_ = nullptr;                     // 2 x (B, R): h of the last two steps where y cannot be
  T* hidden_ = nullptr;                   // (B, H): h before the projection; rows of all these at spread strides
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
