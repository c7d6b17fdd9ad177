// The weights as the passes read them: packed once a call, by the whole team, for all its parts; a panel that is wanted
// once, by its member, when it is; as a call before left them packed; or as they lie.
#pragma once
#include "half.h"
#include "plan.h"
#include "team.h"
#include "unpacked.h"
#include "workspace.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

// Whether weights that are read as they lie come from beyond the second-level cache.
template <class T>
inline bool lie_past_second_level(int64_t gates, const Layer& l) {
  return machine().past_second_level(gates * l.H * std::max(l.I, l.R()) * size_of(kOperand<T>));
}

// 32-bit words at the head of Weights::packed, of which the first says whether bf16 words follow, or panels.
constexpr int64_t kPackedHead = 16;

// Whether panels of so many values, which each member packs a part of and all members read, are to be written past the
// caches. Where those are far apart, each line is else fetched back from the others before it can be written: packing runs
// at 8 GB/s a thread in place of 35, and what the first reading takes longer is less.
template <class T>
inline bool past_caches(const Member& m, bool sharing, int64_t values) {
  return kStreams && sharing && m.n > 1 && values * int64_t(sizeof(T)) >= (256 << 10) && m.far_apart();
}

// Forward's: panels of a unit block, all gates side by side. A call of few rows reads them as they lie. Weights::packed in
// their place are such panels, or bf16 words.
template <class Cell, class T>
class GateWeights {
  using B_ = Blocks<Cell, T>;
  static constexpr int L = B_::L, G = B_::G, NV = B_::NV;
  static constexpr int64_t U = B_::U, W = B_::W;
  static constexpr bool kTakesPacked = sizeof(T) == 4 && !kPairs;

 public:
  using Block = typename B_::Block;

  // uniform: all rows of x lie at one distance
  GateWeights(const ForwardArgs& f, const Plan& plan, int64_t all_rows, bool uniform, Workspace& ws)
      : w_(f.w),
        l_(f.layer),
        R_(l_.R()),
        NB_(B_::count(l_.H)),
        far_ih_(machine().far_gates(plan.own(NB_ * panel_words(l_.I) * W * int64_t(sizeof(T))))),
        far_hh_(machine().far_gates(plan.own(NB_ * panel_words(R_) * W * int64_t(sizeof(T))))),
        half_(given<uint32_t>(f.w, true)),
        ready_(lies_better(plan, all_rows) ? nullptr : given<T>(f.w, false)),
        past_second_level_(lie_past_second_level<T>(G, l_)),
        sharing_(plan.parts > 1),
        expanded_(half_ && all_rows >= kExpandedRows),
        packed_(half_ || ready_ || l_.dtype != kOperand<T> || all_rows > kUnpackedRows),
        // to look costs as much as a row's product
        skips_(packed_ && !half_ && !f.hx && !kPairs && l_.B >= 4) {
    const bool packs = packed_ && !half_ && !ready_, own = packs && plan.parts == 1;  // a unit block is one member's
    once_ih_ = own && uniform && all_rows <= plan.chunk_rows;
    once_hh_ = own && l_.T == 1;
    if (packs && !once_ih_) w_ih_ = own_ih_ = ws.take<T>(size(l_.H, l_.I));
    if (packs && !once_hh_) w_hh_ = own_hh_ = ws.take<T>(size(l_.H, R_));
    if (ready_) w_ih_ = ready_, w_hh_ = ready_ + size(l_.H, l_.I);
    if (skips_ && w_hh_) finite_ = ws.take<bool>(NB_);
    b_ih_ = ws.take<T>(NB_ * W);
    b_hh_ = ws.take<T>(NB_ * W);
    if (l_.P) w_hr_ = ws.take<T>(panels<T>(l_.P) * panel_words(l_.H) * 2 * L);
  }

  // Values of the panels of a matrix (G*H, K); and the panels of one of fp32, for calls to come.
  static int64_t size(int64_t H, int64_t K) { return B_::count(H) * panel_words(K) * W; }
  static void pack_all(T* dst, const float* w, int64_t H, int64_t K) {
    for (int64_t u = 0; u < B_::count(H); ++u) pack(dst + u * panel_words(K) * W, w, DType::f32, H, K, B_::at(u, H));
  }

  bool packed() const { return packed_; }
  Block block(int64_t index) const { return B_::at(index, l_.H, packed_); }
  // Values of the scratch that `input` and `recurrent` want beside their own.
  int64_t scratch() const { return expanded_ || once_ih_ || once_hh_ ? panel_words(std::max(l_.I, R_)) * W : 0; }

  void prepare(const Member& m) const {
    int64_t a, b;
    m.share(NB_, 1, a, b);
    const bool past = past_caches<T>(m, sharing_, (own_ih_ ? size(l_.H, l_.I) : 0) + (own_hh_ ? size(l_.H, R_) : 0));
    for (int64_t u = a; u < b; ++u) {
      const Block block_u = block(u);
      if (own_ih_) pack(own_ih_ + u * panel_words(l_.I) * W, w_.w_ih, l_.dtype, l_.H, l_.I, block_u, past);
      if (own_hh_) pack(own_hh_ + u * panel_words(R_) * W, w_.w_hh, l_.dtype, l_.H, R_, block_u, past);
      if (finite_) finite_[u] = finite_weights(block_u);
      pack_bias(b_ih_ + u * W, w_.b_ih, block_u);
      pack_bias(b_hh_ + u * W, w_.b_hh, block_u);
    }
    if (past) stores_seen();
    if (!l_.P) return;
    m.share(panels<T>(l_.P), 1, a, b);
    for (int64_t p = a; p < b; ++p)
      pack_panel(w_hr_ + p * panel_words(l_.H) * 2 * L, panel_vectors<T>(l_.P, p), l_.dtype, l_.H, [&](int64_t j) {
        const int64_t row = p * 2 * L + j;
        return row < l_.P ? at(w_.w_hr, l_.dtype, row * l_.H) : nullptr;
      });
  }

  // out (rows, gate, unit of the block) = b_ih + W_ih x; x (rows, I), and b_hh + W_hh h; h (rows, R). then: the index
  // of the block that is wanted after this one, or -1
  void input(const Block& b, int64_t then, int64_t rows, const T* x, int64_t stride, T* scratch, T* out) const {
    product(b, from(far_ih_, w_ih_, l_.I, then), rows, l_.I, x, stride, 0, w_ih_, w_.w_ih, b_ih_ + b.index * W, scratch,
            out);
  }
  // beside: what goes on meanwhile, where matrix tiles leave it room
  void recurrent(const Block& b, int64_t then, int64_t rows, const T* h, int64_t stride, T* scratch, T* out,
                 Beside* beside) const {
    product(b, from(far_hh_, w_hh_, R_, then, beside), rows, R_, h, stride, half_ ? half_size<Cell>(l_.H, l_.I) : 0,
            w_hh_, w_.w_hh, b_hh_ + b.index * W, scratch, out);
  }
  // the same at a sequence's first step, where h is hx. Without one h is zero, and where the weights are known to be
  // finite the product is, too: the bias is left.
  void recurrent_first(const Block& b, int64_t rows, const T* h, int64_t stride, T* scratch, T* out,
                       Beside* beside) const {
    if (once_hh_ && skips_) pack(scratch, w_.w_hh, l_.dtype, l_.H, R_, b);
    if (!skips_ || !(once_hh_ ? all_finite(scratch, R_ * b.width()) : finite_[b.index]))
      return recurrent(b, -1, rows, h, stride, scratch, out, beside);
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(out + r * b.width(), b_hh_ + b.index * W, size_t(b.width()) * sizeof(T));
  }
  // out (rows, 2L) = the columns of panel p of W_hr times hidden (rows, H)
  void projection(int64_t p, int64_t rows, const T* hidden, int64_t stride, T* out) const {
    plain_product(rows, panel_words(l_.H), hidden, stride, w_hr_, l_.P, p, out, 2 * L);
  }

 private:
  // Whether even packed weights are better read as they lie: a few rows in all by one thread, from far beyond its
  // second-level cache. Where a step has several, rows of the weights are asked for beforehand; of panels, a single tile
  // would meet each once.
  bool lies_better(const Plan& plan, int64_t rows) const {
    return plan.threads == 1 && rows > 1 && rows <= 8 && l_.dtype == kOperand<T> &&
           machine().far_beyond_second_level(G * l_.H * R_ * int64_t(sizeof(T)));
  }

  // What stands at Weights::packed, if that is of this kind.
  template <class Word>
  static const Word* given(const Weights& w, bool rounded) {
    const auto* head = static_cast<const uint32_t*>(w.packed);
    if (!kTakesPacked || !head || (*head != 0) != rounded) return nullptr;
    return reinterpret_cast<const Word*>(head + kPackedHead);
  }

  static void pack(T* panel, const void* w, DType d, int64_t H, int64_t K, const Block& b, bool past = false) {
    const auto row = [&](int64_t j) {
      const auto c = B_::column(b, j);
      return c.unit < 0 ? nullptr : at(w, d, (c.gate * H + c.unit) * K);
    };
    past ? pack_panel<T, kStreams>(panel, b.vectors, d, K, row) : pack_panel<T>(panel, b.vectors, d, K, row);
  }

  // Whether all of W_hh in a block is finite: panels that were just packed may have gone past the caches, so the weights are
  // looked through where they lie, if they are of the operands' type.
  bool finite_weights(const Block& b) const {
    if (ready_ || l_.dtype != kOperand<T>) return all_finite(w_hh_ + b.index * R_ * W, R_ * b.width());
    for (int g = 0; g < G; ++g)
      if (!all_finite(static_cast<const T*>(w_.w_hh) + (g * l_.H + b.first()) * R_, b.units * R_)) return false;
    return true;
  }

  static bool all_finite(const T* values, int64_t count) {
    constexpr int chains = 4;
    Vec<T> zeros[chains] = {};  // but where an infinity or a NaN comes in
    int64_t i = 0;
    for (; i + chains * L <= count; i += chains * L)
      for (int j = 0; j < chains; ++j) zeros[j] += load(values + i + j * L) * T(0);
    for (; i < count; i += L) zeros[0] += load_lanes<T>(values + i, kNative<T>, count - i) * T(0);
    for (int j = 1; j < chains; ++j) zeros[0] += zeros[j];
    for (int l = 0; l < L; ++l)
      if (!(zeros[0][l] == T(0))) return false;
    return true;
  }

  void pack_bias(T* dst, const void* bias, const Block& b) const {
    std::fill(dst, dst + b.width(), T(0));
    if (bias)
      for (int64_t g = 0; g < G; ++g)
        load_row(dst + g * b.pitch, at(bias, l_.dtype, g * l_.H + b.first()), l_.dtype, b.units);
  }

  static From<T> from(bool far, const T* panels, int64_t K, int64_t then, Beside* beside = nullptr) {
    return {far && panels, then < 0 || !panels ? nullptr : panels + then * panel_words(K) * W, beside};
  }

  // out (rows, gate, unit) = bias + a (rows, K values) * one unit block of the gate weights. All down to the tile is
  // inlined here: one row's product by a small panel would feel each call, and what the compiler chose changed with
  // code elsewhere, by 5 % of a small layer.
  FASTRNN_NOINLINE void product(const Block& b, const From<T>& from, int64_t rows, int64_t K, const T* a,
                                int64_t stride, int64_t half_matrix, const T* panels, const void* weights,
                                const T* bias, T* scratch, T* out) const {
    if constexpr (kTakesPacked)
      if (half_) {
        const uint32_t* panel = half_ + half_matrix + b.index * half_words(K) * W;
        if (rows < kExpandedRows) return half_gate_product<NV>(b.vectors, rows, K, a, stride, panel, bias, out);
        expand_half(panel, b.vectors, K, scratch);
        return gate_product<NV>(b.vectors, rows, K, a, stride, scratch, From<T>{}, bias, out);
      }
    if (packed_) {
      if (!panels) pack(scratch, weights, l_.dtype, l_.H, K, b);
      const T* panel = panels ? panels + b.index * panel_words(K) * W : scratch;
      return gate_product<NV>(b.vectors, rows, panel_words(K), a, stride, panel, from, bias, out);
    }
    int64_t n[NV];  // vectors of one panel: the gates, or a one-gate cell's neighbouring units
    for (int j = 0; j < NV; ++j) n[j] = b.units - (G == 1 ? j * L : 0);
    unpacked_product<T, NV>(rows, K, a, stride, at(weights, kOperand<T>, b.first() * K), G == 1 ? L : l_.H, n, bias,
                            out, past_second_level_);
  }

  template <int N>
  static FASTRNN_INLINE void gate_product(int vectors, int64_t rows, int64_t K, const T* a, int64_t stride,
                                          const T* panel, const From<T>& from, const T* bias, T* out) {
    if constexpr (N > 1)
      if (vectors < N) return gate_product<N - 1>(vectors, rows, K, a, stride, panel, from, bias, out);
    panel_product<T, N>(rows, K, a, stride, panel, bias, out, N * L, from);
  }

  template <int N>
  static void half_gate_product(int vectors, int64_t rows, int64_t K, const float* a, int64_t stride,
                                const uint32_t* panel, const float* bias, float* out) {
    if constexpr (N > 1)
      if (vectors < N) return half_gate_product<N - 1>(vectors, rows, K, a, stride, panel, bias, out);
    half_product<N>(rows, K, a, stride, panel, bias, out);
  }

  const Weights& w_;
  const Layer& l_;
  const int64_t R_, NB_;
  const bool far_ih_, far_hh_;    // panels are asked for beforehand (machine.h)
  const uint32_t* half_;          // both matrices as bf16 words, or null
  const T* ready_;                // or as panels
  const bool past_second_level_;  // as they lie
  const bool sharing_;            // members read each other's panels
  const bool expanded_, packed_;  // bf16 words are expanded panel by panel; the weights do not lie as they were given
  // Whether, without hx, the first step's product is left out where W_hh is finite; whether each panel of a matrix is
  // wanted once: it is then packed when it is, and stays in the cache.
  const bool skips_;
  bool once_ih_, once_hh_;
  const T *w_ih_ = nullptr, *w_hh_ = nullptr;  // [block][word of k][gate][unit]; null: not packed, or once
  T *own_ih_ = nullptr, *own_hh_ = nullptr;    // the same, to be packed in this call
  T* w_hr_ = nullptr;                          // [panel][word of k][2L]
  bool* finite_ = nullptr;                     // without hx: whether all of W_hh in a block is
  T *b_ih_, *b_hh_;                            // [block][gate][unit]
};

// Backward's: the transposed ones, for dh = dg W_hh, dx = dg W_ih and what comes through a projection. Columns of a
// matrix as it lies are panels, too, though their rows are far apart: few rows use them so.
template <class Cell, class T>
class TransposedWeights {
  static constexpr int L = kLanes<T>, G = Cell::kGates;
  static constexpr int64_t W2 = 2 * L;

 public:
  // one_chunk: dx is made once, after all steps: then W_ih may take W_hh's place, where no dhx asks for that again
  TransposedWeights(const BackwardArgs& f, const Plan& plan, int64_t all_rows, bool one_chunk, Workspace& ws)
      : w_(f.w),
        l_(f.layer),
        depth_(panel_words(G * l_.H)),
        far_ih_(machine().far(plan.own(panels<T>(l_.I) * depth_ * W2 * int64_t(sizeof(T))))),
        far_hh_(machine().far(plan.own(panels<T>(l_.R()) * depth_ * W2 * int64_t(sizeof(T))))),
        past_second_level_(lie_past_second_level<T>(G, l_)),
        as_it_lies_(!kPairs && l_.dtype == kOperand<T> && all_rows <= kUnpackedRows),
        sharing_(plan.parts > 1 && !as_it_lies_),
        late_(one_chunk && !as_it_lies_ && f.dx && !f.dhx && panels<T>(l_.I) <= panels<T>(l_.R())) {
    w_hh_ = ws.take<T>(panels<T>(l_.R()) * depth_ * W2);
    if (f.dx) w_ih_ = late_ ? w_hh_ : ws.take<T>(panels<T>(l_.I) * depth_ * W2);
    if (l_.P) w_hr_ = ws.take<T>(panels<T>(l_.H) * panel_words(l_.P) * W2);
  }

  void prepare(const Member& m) const {
    const int64_t values = (panels<T>(l_.R()) + (w_ih_ ? panels<T>(l_.I) : 0)) * depth_ * W2;
    const bool past = past_caches<T>(m, sharing_, values);
    pack(
        m, w_hh_, w_.w_hh, l_.R(), lying(l_.R()), G * l_.H,
        [&](int64_t k) { return Cell::gate_of_h(int(k / l_.H)) * l_.H + k % l_.H; }, past);
    if (w_ih_ && !late_) pack_input(m, past);
    if (past) stores_seen();
    if (w_hr_) pack(m, w_hr_, w_.w_hr, l_.H, 0, l_.P, [](int64_t k) { return k; }, false);
  }
  // Whether W_ih is packed only now that the steps are done: then the panels that a member shall use are those that it
  // packs.
  bool pack_late(const Member& m) const {
    if (late_) pack_input(m, false);
    return late_;
  }

  // For each panel of W_hh in [first, last) that lies: out(p) (rows, 2L) = dg W_hh
  template <class Out>
  void hidden_in_place(int64_t first, int64_t last, int64_t rows, const T* dg, int64_t stride, Out&& out) const {
    in_place(w_.w_hh, l_.R(), [](int j) { return Cell::gate_of_h(j); }, first, last, rows, dg, stride, out, W2);
  }
  // The same for W_ih
  template <class Out>
  void input_in_place(int64_t first, int64_t last, int64_t rows, const T* dg, int64_t stride, Out&& out,
                      int64_t out_stride) const {
    in_place(w_.w_ih, l_.I, [](int j) { return Cell::gate_of_x(j); }, first, last, rows, dg, stride, out, out_stride);
  }
  // out (rows, columns of panel p of R) = dg W_hh; dg (rows, G*H), the part that goes through h; then: the panel that
  // is wanted after this one, or -1
  void hidden(int64_t p, int64_t then, int64_t rows, const T* dg, int64_t stride, T* out) const {
    const From<T> from{far_hh_, then < 0 ? nullptr : plain_row(w_hh_, depth_, l_.R(), then, 0)};
    plain_product(rows, depth_, dg, stride, w_hh_, l_.R(), p, out, W2, from.terms(rows), from);
  }
  // the same for I and W_ih; and slice by slice of G*H, each adding to what the ones before have left in out
  void input(int64_t p, int64_t rows, const T* dg, int64_t stride, T* out, int64_t out_stride) const {
    plain_product(rows, depth_, dg, stride, w_ih_, l_.I, p, out, out_stride, kTermsOfDx);
  }
  // Whether panel p of n columns is read where the weights lie, as whole ones of few rows are.
  bool lies(int64_t n, int64_t p) const { return p < lying(n); }
  bool packed() const { return !as_it_lies_; }
  template <class Body>
  void for_input_slices(Body&& body) const {
    for_slices<2>(depth_, kTermsOfDx, body);
  }
  void input_slice(int64_t k, int64_t depth, int64_t p, int64_t then, int64_t rows, const T* dg, int64_t stride, T* out,
                   int64_t out_stride) const {
    plain_slice(k, depth, rows, depth_, dg, stride, w_ih_, l_.I, p, out, out_stride,
                far_ih_ && then >= 0 ? plain_row(w_ih_, depth_, l_.I, then, k) : nullptr);
  }
  // out (rows, columns of panel p of H) = dh W_hr; dh (rows, P)
  void projection(int64_t p, int64_t rows, const T* dh, int64_t stride, T* out) const {
    plain_product(rows, panel_words(l_.P), dh, stride, w_hr_, l_.H, p, out, W2);
  }

 private:
  void pack_input(const Member& m, bool past) const {
    pack(
        m, w_ih_, w_.w_ih, l_.I, lying(l_.I), G * l_.H,
        [&](int64_t k) { return Cell::gate_of_x(int(k / l_.H)) * l_.H + k % l_.H; }, past);
  }

  int64_t lying(int64_t n) const { return as_it_lies_ ? n / W2 : 0; }

  // rows row(0), row(1), ... of w (·, n), as panels of n, from panel `first` on
  template <class Row>
  void pack(const Member& m, T* dst, const void* w, int64_t n, int64_t first, int64_t rows, Row&& row,
            bool past) const {
    int64_t a, b;
    m.share(panels<T>(n), 1, a, b);
    a = std::max(a, first);
    if (a >= b) return;
    RowPacker<T> packer(dst, panel_words(rows), l_.dtype, n, a, b, past);
    for (int64_t k = 0; k < rows; ++k) packer.add(at(w, l_.dtype, row(k) * n));
    packer.finish();
  }

  // For each panel of w (G*H, n) in [first, last) that lies: out(p) (rows, 2L) = dg * its columns
  template <class Gate, class Out>
  void in_place(const void* w, int64_t n, Gate&& gate, int64_t first, int64_t last, int64_t rows, const T* dg,
                int64_t stride, Out&& out, int64_t out_stride) const {
    for (int j = 0; j < G; ++j)
      matrix_product_in_place(first, std::min(last, lying(n)), rows, l_.H, dg + j * l_.H, stride,
                              static_cast<const T*>(w) + gate(j) * l_.H * n, n, past_second_level_, j > 0, out,
                              out_stride);
  }

  const Weights& w_;
  const Layer& l_;
  const int64_t depth_;
  const bool far_ih_, far_hh_;    // panels are asked for beforehand (machine.h)
  const bool past_second_level_;  // as they lie
  const bool as_it_lies_, sharing_, late_;
  T *w_hh_, *w_ih_ = nullptr, *w_hr_ = nullptr;  // [panel of R, I][words of G*H][2L]; [panel of H][words of P][2L]
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
