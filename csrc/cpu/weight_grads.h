// What a chunk's gate gradients dg add up to: dx = dg W_ih, dW_ih = dg^T x, dW_hh = dg^T h_{t-1}, db = column sums,
// and under a projection dW_hr = dh^T h. Products over all rows of the chunk.
#pragma once
#include <cmath>

#include "sequence.h"
#include "weights.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

// The left operand of an outer product: some columns of a matrix of row gradients, copied as (words, pitch) so that a
// tile reads them one after the other or, for matrix tiles, as rows: (columns, stride words).
template <class T>
struct Columns {
  static constexpr int L = kLanes<T>;
  static constexpr int64_t kMost = kMatrixTiles ? 2 * L : kTileRows<2>, kPitch = (kMost + L - 1) / L * L;
  T* data;
  int64_t depth, count, stride;  // words of the rows; columns; words from one column to the next
  int64_t row;                   // of the product's result, that the first column becomes

  // Values of memory for a chunk of so many rows.
  static int64_t size(int64_t rows) {
    return kPitch * (kMatrixTiles ? spread_stride<T>(panel_words(rows)) : words(rows));
  }
  Columns() = default;
  // columns [first, first + count) of src (rows, src_stride words); whole vectors are read
  Columns(T* memory, const T* src, int64_t src_stride, int64_t rows, int64_t first, int64_t count, int64_t row)
      : data(memory),
        depth(panel_words(rows)),
        count(count),
        stride(kMatrixTiles ? spread_stride<T>(depth) : 1),
        row(row) {
    constexpr int64_t per_word = kPairs ? 2 : 1;
    const auto load_word = [&](int64_t k, int64_t v) {
      const auto row = [&](int64_t r) { return r < rows ? at(src + r * src_stride, kOperand<T>, first + v) : nullptr; };
      return load_column_words<T>(row(k * per_word), kPairs ? row(2 * k + 1) : nullptr, kOperand<T>, L);
    };
    if constexpr (kMatrixTiles) {
      for (int64_t k = 0; k < depth; k += L)
        for (int64_t v = 0; v < count; v += L) {
          Vec<T> block[L];
          for (int l = 0; l < L; ++l) block[l] = load_word(k + l, v);
          transpose<T>(block);
          for (int l = 0; l < L; ++l) store(data + (v + l) * stride + k, block[l]);
        }
    } else {
      for (int64_t k = 0; k < depth; ++k)
        for (int64_t v = 0; v < kPitch; v += L) store(data + k * kPitch + v, load_word(k, v));
    }
  }
};

// The words of a chunk's rows that a sum runs over; the others are known to add nothing.
struct Terms {
  int64_t first, last;
};

// What an outer product has on its left: tiles of columns side by side. A slice of a panel meets all of them while it
// is in the first-level cache: where panels are far, several.
template <class T>
struct Group {
  static constexpr int kMost = kMatrixTiles ? 1 : 4;
  Columns<T> tiles[kMost];
  int size = 0;
  const Columns<T>* begin() const { return tiles; }
  const Columns<T>* end() const { return tiles + size; }
  int64_t row() const { return tiles[0].row; }
  int64_t count() const { return tiles[size - 1].row + tiles[size - 1].count - row(); }
};

// c (·, n) [+]= a^T * panel, for n columns at most; rows of c at ldc; panel [words][NV vectors] (pack.h). Sums run over
// slices of the rows, so that they round less.
template <class T, int NV>
inline void add_outer_panel(const Group<T>& a, const Terms& terms, const T* panel, int64_t n, T* c, int64_t ldc,
                            bool accumulate, const From<T>& from) {
  constexpr int64_t width = NV * kLanes<T>;
  // where false, tiles are finished aside, and only their columns within n copied
  bool whole = n >= width;
#if defined(FASTRNN_AMX)
  whole = whole && tiles_evenly(a.count());
#endif
  T edges[Group<T>::kMost][Columns<T>::kMost * width];
  const int64_t stride = whole ? ldc : width;
  const auto sum = [&](const Columns<T>& tile) { return whole ? c + tile.row * ldc : edges[&tile - a.begin()]; };
#if defined(FASTRNN_AMX)
  (void)terms, (void)from;  // tiles take all
  for (const Columns<T>& tile : a)
    matrix_product<NV>(tile.count, tile.depth, tile.data, tile.stride, panel, accumulate && whole ? sum(tile) : nullptr,
                       stride, sum(tile), stride);
#else
  constexpr int64_t pitch = Columns<T>::kPitch;
  for_slices<NV>(terms.last - terms.first, kTerms, [&](int64_t done, int64_t depth) {
    const bool add = done || (accumulate && whole);
    const int64_t k = terms.first + done, after = k + depth;
    Shares shares(from.next(panel + after * width, after == terms.last), depth * width * int64_t(sizeof(T)), a.size);
    for (const Columns<T>& left : a)
      tile<T, NV>(int(left.count), depth, left.data + k * pitch, 1, pitch, panel + k * width, add ? sum(left) : nullptr,
                  stride, sum(left), stride, shares.take());
  });
#endif
  if (whole) return;
  for (const Columns<T>& tile : a)
    for (int64_t r = 0; r < tile.count; ++r)
      for (int64_t j = 0; j < std::min(n, width); j += kLanes<T>) {
        T* to = c + (tile.row + r) * ldc + j;
        Vec<T> result = load(sum(tile) + r * width + j);
        if (accumulate) result += load_lanes<T>(to, kNative<T>, n - j);
        store_lanes<T>(to, result, kNative<T>, n - j);
      }
}

// c (·, n) [+]= a^T * an operand of n columns
template <class T>
inline void add_outer(const Group<T>& a, const Terms& terms, const T* operand, int64_t n, T* c, bool accumulate,
                      bool far) {
  constexpr int64_t W2 = 2 * kLanes<T>;
  const int64_t depth = a.begin()->depth;
  for (int64_t p = 0; p < panels<T>(n); ++p) {
    const T* panel = plain_row(operand, depth, n, p, 0);
    const From<T> from{far, p + 1 < panels<T>(n) ? plain_row(operand, depth, n, p + 1, terms.first) : nullptr, nullptr};
    if (panel_vectors<T>(n, p) == 1)
      add_outer_panel<T, 1>(a, terms, panel, n - p * W2, c + p * W2, n, accumulate, from);
    else
      add_outer_panel<T, 2>(a, terms, panel, n - p * W2, c + p * W2, n, accumulate, from);
  }
}

template <class Cell, class T>
class WeightGrads {
  using V = Vec<T>;
  static constexpr int L = kLanes<T>, G = Cell::kGates, GC = Cell::kGradColumns;
  static constexpr int64_t W2 = 2 * L;

 public:
  // dg's rows are `stride` apart, dh's `dh_stride`. direct: the sums may be made in the results themselves, where these
  // have the type of sums.
  WeightGrads(const BackwardArgs& f, const TransposedWeights<Cell, T>& weights, const Steps& steps, int64_t chunk,
              int members, int64_t stride, int64_t dh_stride, bool direct, Workspace& ws)
      : f_(f),
        l_(f.layer),
        weights_(weights),
        steps_(steps),
        R_(l_.R()),
        stride_(stride),
        dh_stride_(dh_stride),
        chunk_(chunk),
        native_(l_.dtype == kNative<T>),
        few_(!kPairs && native_ && direct && !l_.P && steps.rows() <= kFewTerms),
        far_(machine().far(((f.dw_ih ? panels<T>(l_.I) : 0) + (f.dw_hh ? panels<T>(R_) : 0)) * panel_words(chunk) * W2 *
                           int64_t(sizeof(T)))) {
    const auto sum = [&](void* result, int64_t size) {
      return native_ && direct ? static_cast<T*>(result) : ws.take<T>(size);
    };
    if (f.dw_ih) dw_ih_ = sum(f.dw_ih, G * l_.H * l_.I);
    if (f.dw_hh) dw_hh_ = sum(f.dw_hh, G * l_.H * R_);
    if (f.dw_hr) dw_hr_ = sum(f.dw_hr, l_.P * l_.H);
    if (f.db_ih || f.db_hh) db_ = ws.take<T>(GC * l_.H);
    if (few_) {
      if (!f.hx) zeros_ = std::fill_n(ws.take<T>(R_), R_, T(0)) - R_;
      return;
    }
    columns_ = ws.take<T>(members * (far_ ? Group<T>::kMost : 1) * Columns<T>::size(chunk));
    if (f.dw_ih) x_ = ws.take<T>(panels<T>(l_.I) * panel_words(chunk) * W2);
    if (f.dw_hh) h_ = ws.take<T>(panels<T>(R_) * panel_words(chunk) * W2);
    if (f.dw_hr) m_ = ws.take<T>(panels<T>(l_.H) * panel_words(chunk) * W2);
  }

  void prepare(const Member& m) const {
    if (!db_) return;
    int64_t a, b;
    m.share(GC * l_.H, 1, a, b);
    std::fill(db_ + a, db_ + b, T(0));
  }

  // dg (rows, GC*H), dh (rows, P), hidden (rows, H) of the chunk, in the operands' type. All members call it together;
  // dg may be overwritten after it returns.
  void add(const Member& m, const Chunk& c, const T* dg, const T* dh, const T* hidden, T* scratch) const {
    if (!c.rows) return;  // a part's, of steps of which only others have rows
    if (few_) return add_few(m, c, dg, scratch);
    // false for the first rows to be added
    const bool accumulate = l_.reverse ? c.begin != 0 : c.begin + c.rows != steps_.rows();
    pack_operands(m, c, hidden);
    if (f_.dx) add_dx(m, c, dg, scratch);
    if (db_) add_db(m, c.rows, dg);
    m.sync();
    const Terms all{0, panel_words(c.rows)}, with_h = h_terms(c);
    if (x_ || h_)
      for (int64_t j = 0; j < GC; ++j) {
        const int64_t x_gate = j - Cell::kGradX, h_gate = j - Cell::kGradH;
        const bool of_x = x_ && x_gate >= 0 && x_gate < G, of_h = h_ && h_gate >= 0 && h_gate < G;
        if (!of_x && !of_h) continue;
        groups(m, c, dg, stride_, j * l_.H, l_.H, [&](const Group<T>& a) {
          if (of_x) add_outer(a, all, x_, l_.I, dw_ih_ + Cell::gate_of_x(int(x_gate)) * l_.H * l_.I, accumulate, far_);
          if (of_h)
            add_outer(a, finite(j * l_.H + a.row(), a.count()) ? with_h : all, h_, R_,
                      dw_hh_ + Cell::gate_of_h(int(h_gate)) * l_.H * R_, accumulate, far_);
        });
      }
    if (dw_hr_)
      groups(m, c, dh, dh_stride_, 0, l_.P,
             [&](const Group<T>& a) { add_outer(a, all, m_, l_.H, dw_hr_, accumulate, far_); });
    m.sync();
  }

  // The results, from the sums of `count` parts, of which part(i) is one; all members call it, once the sums are made.
  template <class Part>
  static void finish(const Member& m, int count, Part&& part) {
    const WeightGrads& first = part(0);
    const BackwardArgs& f = first.f_;
    const Layer& l = first.l_;
    const auto total = [&](T* WeightGrads::* sum, int64_t a, int64_t b) {
      for (int i = 1; i < count; ++i) {
        const T* other = part(i).*sum;
        for (int64_t j = a; j < b; ++j) (first.*sum)[j] += other[j];
      }
    };
    const auto result = [&](void* dst, T* WeightGrads::* sum, int64_t size) {
      int64_t a, b;
      if (!dst) return;
      m.share(size, 64, a, b);
      total(sum, a, b);
      if (!first.native_) store_row(at(dst, l.dtype, a), first.*sum + a, l.dtype, b - a);
    };
    result(f.dw_ih, &WeightGrads::dw_ih_, G * l.H * l.I);
    result(f.dw_hh, &WeightGrads::dw_hh_, G * l.H * l.R());
    result(f.dw_hr, &WeightGrads::dw_hr_, l.P * l.H);
    if (m.id || !first.db_) return;
    total(&WeightGrads::db_, 0, GC * l.H);
    for (int j = 0; j < G; ++j) {
      if (f.db_ih)
        store_row(at(f.db_ih, l.dtype, Cell::gate_of_x(j) * l.H), first.db_ + (Cell::kGradX + j) * l.H, l.dtype, l.H);
      if (f.db_hh)
        store_row(at(f.db_hh, l.dtype, Cell::gate_of_h(j) * l.H), first.db_ + (Cell::kGradH + j) * l.H, l.dtype, l.H);
    }
  }

 private:
  // body(group) for this member's share of the n columns of src from `from` on, which are as many rows of the result
  template <class Body>
  void groups(const Member& m, const Chunk& c, const T* src, int64_t stride, int64_t from, int64_t n,
              Body&& body) const {
    constexpr int64_t most = Columns<T>::kMost;
    int64_t a, b;
    m.share(n, most, a, b);
    const int size = far_ ? Group<T>::kMost : 1;
    T* memory = columns_ + m.id * size * Columns<T>::size(chunk_);
    Group<T> group;
    for_parts(b - a, (b - a + most - 1) / most, [&](int64_t first, int64_t count) {
      group.tiles[group.size] = Columns<T>(memory + group.size * Columns<T>::size(chunk_), src, stride, c.rows,
                                           from + a + first, count, a + first);
      if (++group.size < size && a + first + count < b) return;
      body(group);
      group.size = 0;
    });
  }

  // The same for a call of few rows, which are one chunk: what they are multiplied by is read where it lies.
  void add_few(const Member& m, const Chunk& c, const T* dg, T* scratch) const {
    if (f_.dx) add_dx(m, c, dg, scratch);
    if (db_) add_db(m, c.rows, dg);
    const T *x[kFewTerms], *h[kFewTerms], *gates[kFewTerms];
    for (int64_t t = c.first; t < c.last; ++t)
      for (int64_t r = 0, k = steps_.offset(t) - c.begin; r < steps_.batch(t); ++r, ++k) {
        x[k] = static_cast<const T*>(steps_.row(f_.x, t, r));
        const void* before = previous_h(t, r);
        h[k] = before ? static_cast<const T*>(before) : zeros_;
      }
    int64_t a, b;
    m.share(l_.H, 2, a, b);
    const auto sum = [&](T* dw, int64_t column, int64_t gate, const T* const* of, int64_t n) {
      for (int64_t k = 0; k < c.rows; ++k) gates[k] = dg + k * stride_ + column * l_.H;
      if (dw) outer_product(c.rows, a, b, gates, of, n, dw + gate * l_.H * n);
    };
    for (int g = 0; g < G; ++g) {
      sum(dw_ih_, Cell::kGradX + g, Cell::gate_of_x(g), x, l_.I);
      sum(dw_hh_, Cell::kGradH + g, Cell::gate_of_h(g), h, R_);
    }
    m.sync();
  }

  // h_{t-1} of row r of step t; null: zeros
  const void* previous_h(int64_t t, int64_t r) const {
    if (r < steps_.continuing(t)) return steps_.row(f_.y, steps_.before(t), r);
    return f_.hx ? at(f_.hx, l_.dtype, steps_.in_batch(r) * R_) : nullptr;
  }

  void pack_operands(const Member& m, const Chunk& c, const T* hidden) const {
    int64_t a, b;
    if (x_) {
      m.share(panels<T>(l_.I), 1, a, b);
      pack_rows(x_, c, l_.I, a, b, [&](int64_t t, int64_t r) { return steps_.row(f_.x, t, r); });
    }
    if (h_) {
      m.share(panels<T>(R_), 1, a, b);
      pack_rows(h_, c, R_, a, b, [&](int64_t t, int64_t r) { return previous_h(t, r); });
    }
    if (m_) {
      m.share(panels<T>(l_.H), 1, a, b);
      RowPacker<T> packer(m_, panel_words(c.rows), kOperand<T>, l_.H, a, b);
      for (int64_t k = 0; k < c.rows; ++k) packer.add(at(hidden, kOperand<T>, k * l_.H));
      packer.finish();
    }
  }

  // Without hx the rows of the first step, in running order, have no h_{t-1}; they stand at one end of a chunk.
  Terms h_terms(const Chunk& c) const {
    constexpr int64_t per_word = kPairs ? 2 : 1;
    const int64_t t = l_.reverse ? l_.T - 1 : 0, none = f_.hx || t < c.first || t >= c.last ? 0 : steps_.batch(t);
    if (l_.reverse) return {0, words(c.rows - none)};
    return {none / per_word, words(c.rows)};
  }

  // Whether these columns of dg are known to be: a zero h_{t-1} then gives them no part of dW_hh.
  bool finite(int64_t first, int64_t count) const {
    if (!db_) return false;
    return std::all_of(db_ + first, db_ + first + count, [](T sum) { return std::isfinite(sum); });
  }

  template <class Row>
  void pack_rows(T* dst, const Chunk& c, int64_t columns, int64_t a, int64_t b, Row&& row) const {
    RowPacker<T> packer(dst, panel_words(c.rows), l_.dtype, columns, a, b);
    for (int64_t t = c.first; t < c.last; ++t)
      for (int64_t r = 0; r < steps_.batch(t); ++r) packer.add(row(t, r));
    packer.finish();
  }

  // dx of a member's rows or, where each packs the panels that it uses or weights are read as they lie, of its panels.
  // Slice by slice of dg's columns, each with all panels: dg is then read from memory once and not once a panel.
  void add_dx(const Member& m, const Chunk& c, const T* dg, T* scratch) const {
    static_assert(Cell::kGradX == 0, "the gradients through x stand first in a row of dg");
    int64_t p0 = 0, p1 = panels<T>(l_.I), a = 0, b = c.rows;
    if (weights_.pack_late(m) || !weights_.packed())
      m.share(panels<T>(l_.I), 1, p0, p1);
    else
      m.share(c.rows, 1, a, b);
    // body(rows that lie at one distance: their dg, their number, their place in all rows): all rows, or a part's step
    // by step
    const auto for_rows = [&](auto&& body) {
      if (steps_.whole()) return body(dg + a * stride_, b - a, c.begin + a);
      for (int64_t t = c.first; t < c.last; ++t)
        body(dg + (steps_.offset(t) - c.begin) * stride_, steps_.batch(t), steps_.in_all(t, 0));
    };
    const int64_t stride = l_.I * steps_.pitch();
    const auto columns = [&](int64_t p) { return std::min(l_.I - p * W2, panel_vectors<T>(l_.I, p) * int64_t(L)); };
    const auto in_place = [&](int64_t p) { return native_ && columns(p) % L == 0; };
    weights_.for_input_slices([&](int64_t k, int64_t depth) {
      for (int64_t p = p0; p < p1; ++p)
        if (in_place(p) && !weights_.lies(l_.I, p))
          for_rows([&](const T* from, int64_t rows, int64_t row) {
            weights_.input_slice(k, depth, p, p + 1 < p1 ? p + 1 : -1, rows, from, stride_,
                                 static_cast<T*>(f_.dx) + row * l_.I + p * W2, stride);
          });
    });
    for_rows([&](const T* from, int64_t rows, int64_t row) {
      weights_.input_in_place(
          p0, p1, rows, from, stride_, [&](int64_t p) { return static_cast<T*>(f_.dx) + row * l_.I + p * W2; }, stride);
    });
    for (int64_t p = p0; p < p1; ++p)
      if (!in_place(p))
        for_rows([&](const T* from, int64_t rows, int64_t row) {
          weights_.input(p, rows, from, stride_, scratch, W2);
          for (int64_t r = 0; r < rows; ++r)
            store_row(at(f_.dx, l_.dtype, row * l_.I + p * W2 + r * stride), scratch + r * W2, l_.dtype, columns(p));
        });
  }

  void add_db(const Member& m, int64_t rows, const T* dg) const {
    int64_t a, b;
    m.share(GC * l_.H, 2 * L, a, b);
    for (int64_t j = a; j < b; j += 2 * L) {
      // short sums of sums: a long running total would be rounded once a row
      const int64_t n = std::min<int64_t>(b - j, 2 * L);
      V sum[2] = {};
      for (int64_t k0 = 0; k0 < rows; k0 += 16) {
        V part[2] = {};
        for (int64_t k = k0; k < std::min(rows, k0 + 16); ++k)
          for (int v = 0; v < 2; ++v)
            part[v] += load_lanes<T>(at(dg + k * stride_, kOperand<T>, j + v * L), kOperand<T>, L);
        for (int v = 0; v < 2; ++v) sum[v] += part[v];
      }
      for (int64_t l = 0; l < n; ++l) db_[j + l] += sum[l / L][l % L];
    }
  }

  const BackwardArgs& f_;
  const Layer& l_;
  const TransposedWeights<Cell, T>& weights_;
  const Steps& steps_;
  const int64_t R_, stride_, dh_stride_, chunk_;
  // storage has the type of sums; rows are so few that nothing is packed; a chunk's x_ and h_ do not stay in the
  // second-level cache
  const bool native_, few_, far_;
  T* columns_ = nullptr;                          // a member's Columns
  T *x_ = nullptr, *h_ = nullptr, *m_ = nullptr;  // [panel][words of chunk rows][2L]: x, h_{t-1}, h before projection
  T *dw_ih_ = nullptr, *dw_hh_ = nullptr, *dw_hr_ = nullptr;  // as the weights
  T* zeros_ = nullptr;                                        // (R), of few rows without hx
  T* db_ = nullptr;                                           // (GC*H)
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
