// The forward pass of one layer and direction.
//
// Time runs in chunks. A chunk's input projection gx = W_ih x + b_ih is one large product; then its steps run one after
// the other, each as gh = W_hh h_{t-1} + b_hh with the cell as epilogue. Units are handled in blocks of U, all gates of
// a block side by side.
#pragma once
#include "math.h"
#include "pack.h"
#include "sequence.h"
#include "tile.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

// How a cell's units are cut into blocks, and where their values stand in the reserve.
template <class Cell, class T>
struct Blocks {
  static constexpr int L = kLanes<T>, G = Cell::kGates;
  static constexpr int UV = G == 1 ? 2 : 1;  // vectors a unit block: enough accumulators for a one-gate cell too
  static constexpr int NV = G * UV;
  static constexpr int64_t U = UV * L, W = NV * L;
  static int64_t count(int64_t H) { return (H + U - 1) / U; }

  // reserve: saved [block][row][kSaved][U], then c [block][row][U]
  static int64_t reserve_size(int64_t rows, int64_t H) {
    return count(H) * rows * U * (Cell::kSaved + (Cell::kHasCellState ? 1 : 0));
  }
  template <class P>
  static P saved_at(P reserve, int64_t rows, int64_t block, int64_t row) {
    return reserve + (block * rows + row) * Cell::kSaved * U;
  }
  template <class P>
  static P c_at(P reserve, int64_t rows, int64_t H, int64_t block, int64_t row) {
    return reserve + count(H) * rows * U * Cell::kSaved + (block * rows + row) * U;
  }
};

template <class Cell, class T>
class Forward {
  using B_ = Blocks<Cell, T>;
  using V = Vec<T>;
  static constexpr int L = B_::L, G = B_::G, UV = B_::UV, NV = B_::NV;
  static constexpr int64_t U = B_::U, W = B_::W;
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
        native_(l_.dtype == kNative<T>),
        gather_(!native_ || !steps_.uniform(f.x)),
        packed_(!native_ || rows_ > kUnpackedRows) {
    if (packed_) {
      w_ih_ = ws_.take<T>(NB_ * l_.I * W);
      w_hh_ = ws_.take<T>(NB_ * R_ * W);
    }
    b_ih_ = ws_.take<T>(NB_ * W);
    b_hh_ = ws_.take<T>(NB_ * W);
    gx_ = ws_.take<T>(NB_ * chunk_ * W);
    scratch_ = ws_.take<T>(plan_.threads * scratch_size());
    h0_ = ws_.take<T>(l_.B * R_);
    if (gather_) x_ = ws_.take<T>(chunk_ * l_.I);
    if (!native_) ring_ = ws_.take<T>(2 * l_.B * R_);
    if (Cell::kHasCellState) c_ = ws_.take<T>(NB_ * l_.B * U);
    if (l_.P) {
      w_hr_ = ws_.take<T>(blocks2(l_.P) * l_.H * 2 * L);
      hidden_ = ws_.take<T>(l_.B * l_.H);
    }
  }

  int threads() const { return plan_.threads; }

  void operator()(const Member& m) const {
    int64_t u0, u1;
    m.share(NB_, 1, u0, u1);
    prepare(m, u0, u1);
    m.sync();
    const RowShare mine(l_, plan_, m, kTileRows<NV>);
    T* scratch = scratch_ + m.id * scratch_size();
    for_chunks(l_, steps_, plan_.chunk_rows, !l_.reverse, [&](const Chunk& c) {
      project(m, c, u0, u1);
      if (plan_.split_rows) m.sync();
      for (int64_t s = 0; s < c.last - c.first; ++s)
        step(m, l_.reverse ? c.last - 1 - s : c.first + s, c, mine, plan_.split_rows ? 0 : u0,
             plan_.split_rows ? NB_ : u1, scratch);
      if (plan_.split_rows || gather_) m.sync();  // before gx and x are written again
    });
    m.sync();
    finish(m);
  }

 private:
  static int64_t blocks2(int64_t n) { return (n + 2 * L - 1) / (2 * L); }
  int64_t scratch_size() const { return (l_.B + 1) * (W > 2 * L ? W : 2 * L); }

  void prepare(const Member& m, int64_t u0, int64_t u1) const {
    for (int64_t u = u0; u < u1; ++u) {
      if (packed_) {
        pack_gates<T, G, UV>(w_ih_ + u * l_.I * W, f_.w.w_ih, l_.dtype, l_.H, l_.I, u * U);
        pack_gates<T, G, UV>(w_hh_ + u * R_ * W, f_.w.w_hh, l_.dtype, l_.H, R_, u * U);
      }
      pack_bias(b_ih_ + u * W, f_.w.b_ih, u);
      pack_bias(b_hh_ + u * W, f_.w.b_hh, u);
    }
    int64_t a, b;
    m.share(l_.B, 1, a, b);
    for (int64_t r = a; r < b; ++r) {
      if (f_.hx)
        load_row(h0_ + r * R_, at(f_.hx, l_.dtype, r * R_), l_.dtype, R_);
      else
        std::fill(h0_ + r * R_, h0_ + (r + 1) * R_, T(0));
      if constexpr (Cell::kHasCellState)
        for (int64_t unit = 0; unit < NB_ * U; unit += L)
          store(c_at(r, unit), f_.cx && unit < l_.H
                                   ? load_lanes<T>(at(f_.cx, l_.dtype, r * l_.H + unit), l_.dtype, l_.H - unit)
                                   : V{});
    }
    if (l_.P) {
      m.share(blocks2(l_.P), 1, a, b);
      for (int64_t p = a; p < b; ++p)
        pack_gates<T, 1, 2>(w_hr_ + p * l_.H * 2 * L, f_.w.w_hr, l_.dtype, l_.P, l_.H, p * 2 * L);
    }
  }

  void pack_bias(T* dst, const void* bias, int64_t block) const {
    for (int g = 0; g < G; ++g)
      for (int v = 0; v < UV; ++v) {
        const int64_t unit = block * U + v * L;
        store(dst + (g * UV + v) * L,
              bias && unit < l_.H ? load_lanes<T>(at(bias, l_.dtype, g * l_.H + unit), l_.dtype, l_.H - unit) : V{});
      }
  }

  // initial (training) or running (inference) cell state of a unit block: [block][B][U]
  T* c_at(int64_t row, int64_t unit) const { return c_ + (unit / U * l_.B + row) * U + unit % U; }

  // gx [block][row of the chunk][gate][U] = W_ih x + b_ih
  void project(const Member& m, const Chunk& c, int64_t u0, int64_t u1) const {
    const T* x = x_;
    int64_t stride = l_.I;
    if (gather_) {
      for (int64_t t = c.first; t < c.last; ++t) {
        int64_t a, b;
        m.share(steps_.batch(t), 1, a, b);
        for (int64_t r = a; r < b; ++r)
          load_row(x_ + (steps_.offset(t) - c.begin + r) * l_.I, steps_.row(f_.x, t, r), l_.dtype, l_.I);
      }
      m.sync();
    } else {
      x = static_cast<const T*>(steps_.row(f_.x, c.first, 0));
      stride = l_.T > 1 && l_.B == 1 && !l_.batch_sizes ? f_.x.step : f_.x.row;
    }
    for (int64_t u = u0; u < u1; ++u)
      product(u, c.rows, l_.I, x, stride, w_ih_, f_.w.w_ih, b_ih_ + u * W, gx_ + u * chunk_ * W);
  }

  // out (rows, gate, U) = bias + a (rows, K) * one unit block of the gate weights, from their panels if they were packed
  void product(int64_t block, int64_t rows, int64_t K, const T* a, int64_t stride, const T* panels, const void* weights,
               const T* bias, T* out) const {
    if (packed_) return panel_product<T, NV>(rows, K, a, stride, panels + block * K * W, bias, out);
    const int64_t unit = block * U;
    int64_t n[NV];  // vectors of one panel: the gates, or a one-gate cell's neighbouring units
    for (int j = 0; j < NV; ++j) n[j] = l_.H - unit - (G == 1 ? j * L : 0);
    unpacked_product<T, NV>(rows, K, a, stride, static_cast<const T*>(weights) + unit * K, G == 1 ? L : l_.H, n, bias,
                            out);
  }

  void step(const Member& m, int64_t t, const Chunk& c, const RowShare& mine, int64_t u0, int64_t u1,
            T* scratch) const {
    const int64_t batch = steps_.batch(t), continuing = steps_.continuing(t);
    int64_t stride;
    const T* h_prev = previous_h(t, stride);
    for (int64_t u = u0; u < u1; ++u) {
      const T* bias = b_hh_ + u * W;
      mine.each(0, continuing, [&](int64_t a, int64_t b) {
        product(u, b - a, R_, h_prev + a * stride, stride, w_hh_, f_.w.w_hh, bias, scratch);
        cells(t, c, u, a, b, h_prev, stride, true, scratch);
      });
      mine.each(continuing, batch, [&](int64_t a, int64_t b) {
        product(u, b - a, R_, h0_ + a * R_, R_, w_hh_, f_.w.w_hh, bias, scratch);
        cells(t, c, u, a, b, h0_, R_, false, scratch);
      });
    }
    if (l_.P) {
      if (!plan_.split_rows) m.sync();
      int64_t p0 = 0, p1 = blocks2(l_.P);
      if (!plan_.split_rows) m.share(p1, 1, p0, p1);
      mine.each(0, batch, [&](int64_t a, int64_t b) {
        for (int64_t p = p0; p < p1; ++p) {
          panel_product<T, 2>(b - a, l_.H, hidden_ + a * l_.H, l_.H, w_hr_ + p * l_.H * 2 * L, (const T*)nullptr,
                              scratch);
          for (int64_t r = a; r < b; ++r)
            for (int v = 0; v < 2; ++v)
              if (p * 2 * L + v * L < l_.P) put_h(t, r, p * 2 * L + v * L, load(scratch + ((r - a) * 2 + v) * L));
        }
      });
    }
    if (!plan_.split_rows) m.sync();
  }

  // h of the step before t, in the arithmetic type: (rows, R)
  const T* previous_h(int64_t t, int64_t& stride) const {
    const int64_t p = steps_.before(t);
    stride = native_ ? f_.y.row : R_;
    if (p < 0) return h0_;
    return native_ ? static_cast<const T*>(steps_.row(f_.y, p, 0)) : ring_ + (p & 1) * l_.B * R_;
  }

  void put_h(int64_t t, int64_t row, int64_t column, V h) const {
    store_lanes<T>(at(steps_.row_out(f_.y, t, row), l_.dtype, column), h, l_.dtype, R_ - column);
    if (!native_) store_lanes<T>(ring_ + ((t & 1) * l_.B + row) * R_ + column, h, kNative<T>, R_ - column);
  }

  // The epilogue: the cell on rows [a, b) of one unit block; gh [row - a][gate][U].
  void cells(int64_t t, const Chunk& c, int64_t block, int64_t a, int64_t b, const T* h_prev, int64_t h_stride,
             bool continuing, const T* gh_rows) const {
    T* const reserve = static_cast<T*>(f_.reserve);
    const int64_t before = steps_.before(t);
    for (int64_t r = a; r < b; ++r) {
      const int64_t row = steps_.offset(t) + r;
      const T* gx_row = gx_ + (block * chunk_ + row - c.begin) * W;
      const T* gh_row = gh_rows + (r - a) * W;
      for (int v = 0; v < UV; ++v) {
        const int64_t unit = block * U + v * L, n = l_.H - unit;
        if (n <= 0) break;
        V gx[G], gh[G], saved[Cell::kSaved + 1], hp{}, cp{}, h, cn{};
        for (int g = 0; g < G; ++g) {
          gx[g] = load(gx_row + (g * UV + v) * L);
          gh[g] = load(gh_row + (g * UV + v) * L);
        }
        if constexpr (Cell::kReadsHPrev) hp = load_lanes<T>(h_prev + r * h_stride + unit, kNative<T>, n);
        T* c_out = nullptr;
        if constexpr (Cell::kHasCellState) {
          T* running = c_at(r, unit);
          c_out = reserve ? B_::c_at(reserve, rows_, l_.H, block, row) + v * L : running;
          const T* c_in = reserve && continuing
                              ? B_::c_at(reserve, rows_, l_.H, block, steps_.offset(before) + r) + v * L
                              : running;
          cp = load(c_in);
        }
        Cell::template forward<Math<T>>(gx, gh, hp, cp, h, cn, saved);
        if constexpr (Cell::kHasCellState) store(c_out, cn);
        if (reserve) {
          T* s = B_::saved_at(reserve, rows_, block, row) + v * L;
          for (int i = 0; i < Cell::kSaved; ++i) store(s + i * U, saved[i]);
        }
        if (l_.P)
          store_lanes<T>(hidden_ + r * l_.H + unit, h, kNative<T>, n);
        else
          put_h(t, r, unit, h);
      }
    }
  }

  // h_n and c_n: every row's last step in running order
  void finish(const Member& m) const {
    int64_t a, b;
    m.share(l_.B, 1, a, b);
    int64_t t = l_.reverse ? 0 : l_.T - 1;
    for (int64_t r = a; r < b; ++r) {
      while (steps_.batch(t) <= r) --t;
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
  const bool native_, gather_, packed_;
  T *w_ih_ = nullptr, *w_hh_ = nullptr, *w_hr_ = nullptr;  // packed [block][k][gate][U]; w_hr [block][k][2L]
  T *b_ih_, *b_hh_;                                        // [block][gate][U]
  T *gx_, *scratch_;                                       // [block][chunk row][gate][U]; a thread's [row][gate][U]
  T *h0_, *c_ = nullptr;                                   // (B, R); [block][B][U]
  T* x_ = nullptr;                                         // (chunk rows, I): x where it is strided or 16-bit
  T* ring_ = nullptr;                                      // 2 x (B, R): h of the last two steps where y is 16-bit
  T* hidden_ = nullptr;                                    // (B, H): h before the projection
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
