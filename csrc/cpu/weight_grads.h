// What a chunk's gate gradients dg add up to: dx = dg W_ih, dW_ih = dg^T x, dW_hh = dg^T h_{t-1}, db = column sums,
// and under a projection dW_hr = dh^T h. Products over all rows of the chunk.
#pragma once
#include "forward.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

// c (columns of a, n) [+]= a^T panels, for the columns [m0, m1) of a (rows, lda); panels [n block][rows][2L].
// pack: kTileRows<2> columns of a, one thread's. Sums run over slices of the rows, so that they round less.
template <class T>
inline void add_outer(int64_t rows, const T* a, int64_t lda, int64_t m0, int64_t m1, const T* panels, int64_t n, T* c,
                      bool accumulate, T* pack) {
  constexpr int L = kLanes<T>, MR = kTileRows<2>;
  constexpr int64_t W2 = 2 * L, pad = (MR + L - 1) / L * L, slice = 96;
  const int64_t tiles = (m1 - m0 + MR - 1) / MR;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t m = m0 + (m1 - m0) * i / tiles, count = m0 + (m1 - m0) * (i + 1) / tiles - m;
    for (int64_t k = 0; k < rows; ++k)
      for (int64_t v = 0; v < pad; v += L) store(pack + k * pad + v, load(a + k * lda + m + v));
    for (int64_t j = 0; j < n; j += W2) {
      T* const out = c + m * n + j;
      T edge[MR * W2];
      const bool whole = j + W2 <= n;  // otherwise the tile is finished aside, and only its columns within n copied
      T* const sum = whole ? out : edge;
      const int64_t stride = whole ? n : W2;
      bool add = accumulate && whole;
      for (int64_t k = 0; k < rows; k += slice) {
        const int64_t depth = std::min(slice, rows - k);
        tile<T, 2>(int(count), depth, pack + k * pad, 1, pad, panels + j * rows + k * W2, add ? sum : nullptr, stride,
                   sum, stride);
        add = true;
      }
      if (whole) continue;
      for (int64_t r = 0; r < count; ++r)
        for (int64_t l = 0; l < n - j; ++l) out[r * n + l] = edge[r * W2 + l] + (accumulate ? out[r * n + l] : T(0));
    }
  }
}

template <class Cell, class T>
class WeightGrads {
  using V = Vec<T>;
  static constexpr int L = kLanes<T>, G = Cell::kGates, GC = Cell::kGradColumns;
  static constexpr int64_t W2 = 2 * L;

 public:
  WeightGrads(const BackwardArgs& f, const Steps& steps, int64_t chunk, int threads, Workspace& ws)
      : f_(f),
        l_(f.layer),
        R_(l_.R()),
        width_(GC * l_.H),
        chunk_(chunk),
        steps_(steps),
        native_(l_.dtype == kNative<T>) {
    const int64_t IB = blocks(l_.I);
    pack_ = ws.take<T>(threads * chunk * pack_width());
    if (f.dx) w_ih_ = ws.take<T>(IB * G * l_.H * W2);
    if (f.dw_ih) {
      x_ = ws.take<T>(IB * chunk * W2);
      dw_ih_ = native_ ? static_cast<T*>(f.dw_ih) : ws.take<T>(G * l_.H * l_.I);
    }
    if (f.dw_hh) {
      h_ = ws.take<T>(blocks(R_) * chunk * W2);
      dw_hh_ = native_ ? static_cast<T*>(f.dw_hh) : ws.take<T>(G * l_.H * R_);
    }
    if (f.dw_hr) {
      m_ = ws.take<T>(blocks(l_.H) * chunk * W2);
      dw_hr_ = native_ ? static_cast<T*>(f.dw_hr) : ws.take<T>(l_.P * l_.H);
    }
    if (f.db_ih || f.db_hh) db_ = ws.take<T>(width_);
  }

  void prepare(const Member& m) const {
    int64_t a, b;
    if (w_ih_) {
      m.share(blocks(l_.I), 1, a, b);
      for (int64_t k = 0; k < G * l_.H; ++k) {
        const int64_t row = Cell::gate_of_x(int(k / l_.H)) * l_.H + k % l_.H;
        pack_row(w_ih_, G * l_.H, k, at(f_.w.w_ih, l_.dtype, row * l_.I), l_.dtype, l_.I, a, b);
      }
    }
    if (db_) {
      m.share(width_, 1, a, b);
      std::fill(db_ + a, db_ + b, T(0));
    }
  }

  // dg (rows, GC*H), dh (rows, P), hidden (rows, H) of the chunk. All members call it together; dg may be overwritten
  // after it returns.
  void add(const Member& m, const Chunk& c, const T* dg, const T* dh, const T* hidden, T* scratch) const {
    const bool first = l_.reverse ? c.first == 0 : c.last == l_.T;  // the first chunk to be added
    pack_operands(m, c, hidden);
    if (w_ih_) add_dx(m, c, dg, scratch);
    if (db_) add_db(m, c.rows, dg);
    m.sync();
    T* pack = pack_ + m.id * chunk_ * pack_width();
    for (int j = 0; j < G; ++j) {
      int64_t a, b;
      m.share(l_.H, kTileRows<2>, a, b);
      if (dw_ih_)
        add_outer(c.rows, dg + (Cell::kGradX + j) * l_.H, width_, a, b, x_, l_.I,
                  dw_ih_ + Cell::gate_of_x(j) * l_.H * l_.I, !first, pack);
      if (dw_hh_)
        add_outer(c.rows, dg + (Cell::kGradH + j) * l_.H, width_, a, b, h_, R_, dw_hh_ + Cell::gate_of_h(j) * l_.H * R_,
                  !first, pack);
    }
    if (dw_hr_) {
      int64_t a, b;
      m.share(l_.P, kTileRows<2>, a, b);
      add_outer(c.rows, dh, l_.P, a, b, m_, l_.H, dw_hr_, !first, pack);
    }
    m.sync();
  }

  void finish(const Member& m) const {
    m.sync();
    if (!native_) {
      convert(m, f_.dw_ih, dw_ih_, G * l_.H * l_.I);
      convert(m, f_.dw_hh, dw_hh_, G * l_.H * R_);
      convert(m, f_.dw_hr, dw_hr_, l_.P * l_.H);
    }
    if (m.id == 0)
      for (int j = 0; j < G; ++j) {
        if (f_.db_ih)
          store_row(at(f_.db_ih, l_.dtype, Cell::gate_of_x(j) * l_.H), db_ + (Cell::kGradX + j) * l_.H, l_.dtype, l_.H);
        if (f_.db_hh)
          store_row(at(f_.db_hh, l_.dtype, Cell::gate_of_h(j) * l_.H), db_ + (Cell::kGradH + j) * l_.H, l_.dtype, l_.H);
      }
  }

 private:
  static int64_t blocks(int64_t n) { return (n + W2 - 1) / W2; }
  static constexpr int64_t pack_width() { return (kTileRows<2> + L - 1) / L * L; }

  void pack_operands(const Member& m, const Chunk& c, const T* hidden) const {
    int64_t a, b;
    if (x_) {
      m.share(blocks(l_.I), 1, a, b);
      pack_rows(x_, c, l_.I, a, b, [&](int64_t t, int64_t r) { return steps_.row(f_.x, t, r); });
    }
    if (h_) {
      m.share(blocks(R_), 1, a, b);
      pack_rows(h_, c, R_, a, b, [&](int64_t t, int64_t r) -> const void* {
        if (r < steps_.continuing(t)) return steps_.row(f_.y, steps_.before(t), r);
        return f_.hx ? at(f_.hx, l_.dtype, r * R_) : nullptr;
      });
    }
    if (m_) {
      m.share(blocks(l_.H), 1, a, b);
      for (int64_t k = 0; k < c.rows; ++k) pack_row(m_, c.rows, k, hidden + k * l_.H, kNative<T>, l_.H, a, b);
    }
  }

  template <class Row>
  void pack_rows(T* dst, const Chunk& c, int64_t columns, int64_t a, int64_t b, Row&& row) const {
    int64_t k = 0;
    for (int64_t t = c.first; t < c.last; ++t)
      for (int64_t r = 0; r < steps_.batch(t); ++r, ++k) pack_row(dst, c.rows, k, row(t, r), l_.dtype, columns, a, b);
  }

  // dx's rows lie at one distance: it is allocated for this.
  void add_dx(const Member& m, const Chunk& c, const T* dg, T* scratch) const {
    int64_t a, b;
    m.share(c.rows, kTileRows<2>, a, b);
    if (a == b) return;
    const T* left = dg + a * width_ + Cell::kGradX * l_.H;
    void* out = at(f_.dx, l_.dtype, (c.begin + a) * l_.I);
    for (int64_t p = 0; p < blocks(l_.I); ++p) {
      const T* panel = w_ih_ + p * G * l_.H * W2;
      const int64_t n = std::min(l_.I - p * W2, W2);
      if (native_ && n == W2) {
        panel_product<T, 2>(b - a, G * l_.H, left, width_, panel, (const T*)nullptr, static_cast<T*>(out) + p * W2,
                            l_.I);
        continue;
      }
      panel_product<T, 2>(b - a, G * l_.H, left, width_, panel, (const T*)nullptr, scratch);
      for (int64_t k = 0; k < b - a; ++k)
        store_row(at(out, l_.dtype, k * l_.I + p * W2), scratch + k * W2, l_.dtype, n);
    }
  }

  void add_db(const Member& m, int64_t rows, const T* dg) const {
    int64_t a, b;
    m.share(width_, 2 * L, a, b);
    for (int64_t j = a; j < b; j += 2 * L) {
      // short sums of sums: a long running total would be rounded once a row
      const int64_t n = std::min<int64_t>(b - j, 2 * L);
      V sum[2] = {};
      for (int64_t k0 = 0; k0 < rows; k0 += 16) {
        V part[2] = {};
        for (int64_t k = k0; k < std::min(rows, k0 + 16); ++k)
          for (int v = 0; v < 2; ++v) part[v] += load(dg + k * width_ + j + v * L);
        for (int v = 0; v < 2; ++v) sum[v] += part[v];
      }
      for (int64_t l = 0; l < n; ++l) db_[j + l] += sum[l / L][l % L];
    }
  }

  void convert(const Member& m, void* dst, const T* src, int64_t count) const {
    int64_t a, b;
    if (!dst) return;
    m.share(count, 64, a, b);
    store_row(at(dst, l_.dtype, a), src + a, l_.dtype, b - a);
  }

  const BackwardArgs& f_;
  const Layer& l_;
  const int64_t R_, width_, chunk_;
  const Steps& steps_;
  const bool native_;
  T* pack_;                                       // a thread's (chunk rows, pack_width)
  T* w_ih_ = nullptr;                             // [block of I][G*H][2L], for dx
  T *x_ = nullptr, *h_ = nullptr, *m_ = nullptr;  // [block][chunk rows][2L]: x, h_{t-1}, h before projection
  T *dw_ih_ = nullptr, *dw_hh_ = nullptr, *dw_hr_ = nullptr;  // as the weights
  T* db_ = nullptr;                                           // (GC*H)
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
