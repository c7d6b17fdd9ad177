// The host's side of a pass: packs, starts the states, and runs the steps in the tier that the plan chose.
//
// Tier c is a kernel a step (two under a projection), any size and dtype. In tier e the caller makes the products, and
// comes for every step. In every tier nothing waits, nothing is allocated, and everything goes to the caller's stream, so
// that a call can be captured in a graph.
#pragma once
#include <algorithm>

#include "team.cuh"

namespace fastrnn {
namespace cuda {

// Hands out parts of the workspace; without memory it only counts.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<char*>(base)) {}
  template <class T>
  T* take(int64_t n) {
    const int64_t at = used_;
    used_ += (n * int64_t(sizeof(T)) + 255) / 256 * 256;
    return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
  }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

template <class Op>
class Pass {
  using E = typename Op::Element;
  using S = typename Op::Storage;
  using A = typename Op::Acc;

 public:
  explicit Pass(const Call& c)
      : c_(c), space_(c.workspace), groups_(int((c.B + 7) / 8 + kMaxGroups - 1) / kMaxGroups * kMaxGroups) {}

  int64_t used() const { return space_.used(); }

  template <class Cell>
  void plan_forward() {
    using Epilogue = ForwardCell<Cell, Op>;
    plan_ = plan<Epilogue>();
    w_ = weights<Epilogue>(c_.H, Layout<Op>::blocks(c_.R()));
    for (auto& slot : slot_) slot = operand(c_.R());
    take_signals();
    carry_h_ = space_.take<A>(Cell::kReadsHPrev ? c_.B * c_.H : 0);
    carry_c_ = space_.take<A>(Cell::kHasCellState ? c_.B * c_.H : 0);
    if (c_.P) {
      w_hr_ = weights<ForwardProjection<Op>>(c_.P, Layout<Op>::blocks(c_.H));
      between_ = operand(c_.H);
    }
  }

  template <class Cell>
  void plan_backward() {
    using Epilogue = BackwardCell<Cell, Op>;
    plan_ = plan<Epilogue>();
    for (auto& slot : slot_) {
      slot = plan_.tier == 'a' ? backward_operand<Epilogue, 'a'>() : backward_operand<Epilogue, 'b'>();
      slot.data = space_.take<E>(elements(slot));
    }
    w_ = weights<Epilogue>(c_.R(), slot_[0].kblocks);
    take_signals();
    carry_h_ = space_.take<A>(c_.B * c_.R());
    carry_c_ = space_.take<A>(Cell::kHasCellState ? c_.B * c_.H : 0);
    if (c_.P) {
      w_hr_ = weights<BackwardProjection<Op>>(c_.H, Layout<Op>::blocks(c_.P));
      between_ = operand(c_.P);
    }
  }

  template <class Cell>
  void forward(const Forward& f) {
    if (f.one.s >= 0) return one_step(f, forward_cell<Cell>(f, f.one.carry_h, f.one.carry_c));
    plan_forward<Cell>();
    const Runs runs(c_);
    const int64_t H = c_.H, R = c_.R();
    Begin<Op> start = begin_with(storage(f.hx), R);
    start.from[0] = storage(f.hx), start.from[1] = storage(f.cx);
    start.n[0] = Cell::kReadsHPrev ? c_.B * H : 0, start.n[1] = Cell::kHasCellState ? c_.B * H : 0;
    prepare<ForwardCell<Cell, Op>>(f.w_hh, R, 1, H, R, w_, slot_[0], start);
    const auto cell = forward_cell<Cell>(f, carry_h_, carry_c_);
    if (resident(cell, start)) return;
    if (!c_.P) {
      Walk<Runs> walk(runs, c_.reverse);
      for (int64_t s = 0; s < c_.T; ++s, walk.forward()) {
        const Step step = walk.step();
        run(cell, step, w_, slot_[s % 2], slot_[1 - s % 2]);
      }
    } else if constexpr (Cell::kHasCellState) {
      const ForwardProjection<Op> projection{int(c_.P), storage(f.y), storage(f.h_n)};
      prepare<ForwardProjection<Op>>(f.w_hr, H, 1, c_.P, H, w_hr_, between_, begin_between(H));
      Walk<Runs> walk(runs, c_.reverse);
      for (int64_t s = 0; s < c_.T; ++s, walk.forward()) {
        const Step step = walk.step();
        run(cell, step, w_, slot_[s % 2], between_);
        run(projection, step, w_hr_, between_, slot_[1 - s % 2]);
      }
    }
  }

  template <class Cell>
  void backward(const Backward& f) {
    if (f.one.s >= 0) return one_step(f, backward_cell<Cell>(f, f.one.carry_h, f.one.carry_c));
    plan_backward<Cell>();
    const Runs runs(c_);
    const int64_t H = c_.H, R = c_.R(), depth = Cell::kGates * H;
    Begin<Op> start = begin_with(nullptr, depth);
    start.from[0] = storage(f.dh_n), start.from[1] = storage(f.dc_n);
    start.n[0] = c_.B * R, start.n[1] = Cell::kHasCellState ? c_.B * H : 0;
    prepare<BackwardCell<Cell, Op>, Cell::kGates>(f.w_hh, 1, R, R, depth, w_, slot_[0], start);
    const auto cell = backward_cell<Cell>(f, carry_h_, carry_c_);
    if (resident(cell, start)) return;
    if (!c_.P) {
      Walk<Runs> walk(runs, !c_.reverse);
      for (int64_t s = 0; s <= c_.T; ++s, walk.forward()) {
        const Step step = walk.step();
        run(cell, step, w_, slot_[s % 2], slot_[1 - s % 2]);
      }
    } else if constexpr (Cell::kHasCellState) {
      const BackwardProjection<Op> projection{int(c_.P), storage(f.dy), carry_h_, storage(f.dh), storage(f.dhx)};
      prepare<BackwardProjection<Op>>(f.w_hr, 1, H, H, c_.P, w_hr_, between_, begin_between(c_.P));
      Walk<Runs> walk(runs, !c_.reverse);
      for (int64_t s = 0; s <= c_.T; ++s, walk.forward()) {
        const Step step = walk.step();
        run(projection, step, w_, slot_[s % 2], between_);
        run(cell, step, w_hr_, between_, slot_[1 - s % 2]);
      }
    }
  }

  // Which tier a pass takes, and why.
  template <class Epilogue>
  Plan plan() const {
    Plan made = make_plan(c_, [&](char tier) {
      const DeviceFacts d = device_facts();
      if (tier == 'a') return Persistent<Op, Epilogue, 'a'>(c_).obstacle(d);
      if (tier == 'b') return Persistent<Op, Epilogue, 'b'>(c_).obstacle(d);
      constexpr int kGates = Epilogue::kBackward ? Epilogue::kResults : Epilogue::kOutputs;
      if (tier == 'e') return obstacle_of_products(c_, kGates, Op::kMatrix);
      return Persistent<Op, Epilogue, 'd'>(c_).obstacle(d);
    });
    if (made.tier == 'a') made.rows = Persistent<Op, Epilogue, 'a'>(c_).rows();
    if (made.tier == 'b') made.rows = Persistent<Op, Epilogue, 'b'>(c_).rows();
    if (made.tier == 'd') made.rows = Persistent<Op, Epilogue, 'd'>(c_).rows();
    return made;
  }

 private:
  static constexpr int64_t kFlags =
      1024;  // teams of a cooperative launch, at least; one more says that a block gave up

  template <class Cell>
  ForwardCell<Cell, Op> forward_cell(const Forward& f, void* carry_h, void* carry_c) const {
    A* reserve = static_cast<A*>(f.reserve);
    return {int(c_.H),
            c_.P != 0,
            static_cast<const A*>(f.gx),
            storage(f.b_ih),
            storage(f.b_hh),
            static_cast<A*>(carry_h),
            static_cast<A*>(carry_c),
            storage(f.y),
            storage(f.h_n),
            storage(f.c_n),
            reserve,
            reserve && Cell::kHasCellState ? reserve + rows_of(c_) * Cell::kSaved * c_.H : nullptr,
            storage(f.hidden)};
  }
  template <class Cell>
  BackwardCell<Cell, Op> backward_cell(const Backward& f, void* carry_h, void* carry_c) const {
    const A* reserve = static_cast<const A*>(f.reserve);
    return {int(c_.H),
            c_.P != 0,
            storage(f.hx),
            storage(f.cx),
            storage(f.y),
            storage(f.dy),
            reserve,
            reserve + rows_of(c_) * Cell::kSaved * c_.H,
            static_cast<A*>(carry_h),
            static_cast<A*>(carry_c),
            storage(f.dg),
            storage(f.dhx),
            storage(f.dcx)};
  }

  // Tier e.
  template <class P, class Epilogue>
  void one_step(const P& pass, const Epilogue& epi) const {
    const Step step = dense_step(c_, Epilogue::kBackward, pass.one.s);
    launch(cell_kernel<Op, Epilogue>, launch_for(int64_t(epi.rows(step)) * c_.H), epi, step,
           static_cast<const A*>(pass.one.sums));
  }

  // What blocks tell one another by, beside the slots.
  void take_signals() {
    flags_ = space_.take<uint32_t>(kFlags + 1);
    if (plan_.tier != 'b') return;
    mail_size_ = elements(slot_[0]) / Layout<Op>::kPerPiece;
    mail_ = space_.take<Piece>(kBuffers * mail_size_);
  }

  Begin<Op> begin_with(const S* src, int64_t K) const {
    Begin<Op> p{src, {slot_[0], slot_[1]}, c_.B, K, elements(slot_[0]), {}, {carry_h_, carry_c_}, {}};
    p.flags = flags_, p.flag_count = kFlags + 1;
    if (mail_) p.mail = mail_, p.mail_pieces = kBuffers * mail_size_, p.empty = kEmpty;
    return p;
  }

  Begin<Op> begin_between(int64_t K) const {
    return {nullptr, {between_, {}}, c_.B, K, elements(between_), {}, {}, {}};
  }

  // Runs all steps in one launch if the plan says so.
  template <class Epilogue>
  bool resident(const Epilogue& epi, const Begin<Op>& start) const {
    if constexpr (Op::kMatrix) {
      if (plan_.tier == 'a') run_resident<'a'>(epi, start);
      if (plan_.tier == 'b') run_resident<'b'>(epi, start);
    }
    if (plan_.tier == 'd') run_resident<'d'>(epi, start);
    return plan_.tier != 'c';
  }
  template <char TIER, class Epilogue>
  void run_resident(const Epilogue& epi, Begin<Op> start) const {
    Resident<Op> p;
    p.runs = RunTable::of(Runs(c_));
    p.down = c_.reverse != Epilogue::kBackward;
    p.count = int(c_.T) + Epilogue::kBackward;
    p.rows = int(c_.B);
    p.w = reinterpret_cast<const Piece*>(w_);
    p.slot[0] = slot_[0], p.slot[1] = slot_[1];
    p.mail = mail_, p.mail_size = mail_size_;
    p.counters = flags_;
    p.failed = flags_ + kFlags;
    p.status = c_.status;
    p.timeout_ns = c_.timeout_ns;
    Persistent<Op, Epilogue, TIER>(c_).with_team([&](auto kernel, const Launch& l) { launch(kernel, l, epi, p); });
    start.flag_count = start.mail_pieces = 0;
    Launch again;
    again.threads = kThreads;
    again.shared = Tile<Op, Epilogue, 2>::kShared;
    again.stream = c_.stream;
    launch(again_kernel<Op, Epilogue, 2>, again, epi, p, start);
  }

  static constexpr int kMaxGroups = 4;  // batch groups a block takes at most

  static const S* storage(const void* p) { return static_cast<const S*>(p); }
  static S* storage(void* p) { return static_cast<S*>(p); }

  template <class Epilogue>
  static int64_t packed_pieces(int64_t units, int kblocks) {
    constexpr int U = 8 * kUnitHalves<Epilogue>;
    return (units + U - 1) / U * U * Epilogue::kOutputs * kblocks * 4;
  }
  template <class Epilogue>
  E* weights(int64_t units, int kblocks) {
    return space_.take<E>(packed_pieces<Epilogue>(units, kblocks) * Layout<Op>::kPerPiece);
  }
  Operand<Op> operand(int64_t K) {
    Operand<Op> o;
    o.kblocks = Layout<Op>::blocks(K);
    o.data = space_.take<E>(elements(o));
    return o;
  }
  template <class Epilogue, char TIER>
  Operand<Op> backward_operand() const {
    Operand<Op> o;
    o.kblocks = Persistent<Op, Epilogue, TIER>::kblocks(c_);
    o.spread = int(Persistent<Op, Epilogue, TIER>::spread(c_));
    return o;
  }
  int64_t elements(const Operand<Op>& o) const { return int64_t(groups_) * o.kblocks * Layout<Op>::kBlock * 8; }

  Launch launch_for(int64_t work) const {
    Launch l;
    l.grid_x = unsigned(std::max<int64_t>(1, std::min<int64_t>((work + kThreads - 1) / kThreads, 1056)));
    l.threads = kThreads;
    l.stream = c_.stream;
    return l;
  }
  // For a product with operand `in`, whose k runs over RESULTS of each unit.
  template <class Epilogue, int RESULTS = 1>
  void prepare(const void* src, int64_t row, int64_t column, int64_t units, int64_t K, E* dst, const Operand<Op>& in,
               const Begin<Op>& start) const {
    const int64_t pieces = packed_pieces<Epilogue>(units, in.kblocks);
    const Packing<Op> p{storage(src),          dst, row,        column,  int(units), Epilogue::kOutputs,
                        kUnitHalves<Epilogue>, K,   in.kblocks, RESULTS, in.spread,  pieces};
    const int64_t work = std::max({pieces, start.elements, start.mail_pieces, start.n[0], start.n[1]});
    launch(prepare_kernel<Op>, launch_for(work), p, start);
  }

  template <class Epilogue>
  void run(const Epilogue& epi, const Step& step, const E* w, const Operand<Op>& in, const Operand<Op>& out) const {
    const int rows = epi.rows(step);
    // exact products read W anew for each group, and their sums are many: few groups a block
    if (rows <= 16 || !Op::kMatrix)
      run_with<2>(epi, step, rows, w, in, out);
    else
      run_with<kMaxGroups>(epi, step, rows, w, in, out);
  }
  template <int NT, class Epilogue>
  void run_with(const Epilogue& epi, const Step& step, int rows, const E* w, const Operand<Op>& in,
                const Operand<Op>& out) const {
    using Tl = Tile<Op, Epilogue, NT>;
    if constexpr (Op::kMatrix || NT <= 2) {
      Launch l;
      l.grid_x = unsigned((rows + 8 * NT - 1) / (8 * NT));
      l.grid_y = unsigned((epi.units() + Tl::U - 1) / Tl::U);
      l.threads = kThreads;
      l.shared = Tl::kShared;
      l.stream = c_.stream;
      launch(step_kernel<Op, Epilogue, NT>, l, epi, step, reinterpret_cast<const Piece*>(w), in, out);
    }
  }

  const Call& c_;
  Carver space_;
  const int groups_;
  E *w_ = nullptr, *w_hr_ = nullptr;  // packed
  uint32_t* flags_ = nullptr;
  Piece* mail_ = nullptr;
  int64_t mail_size_ = 0;
  Plan plan_;
  Operand<Op> slot_[2], between_;  // recurrent operand, read and written in turn; the projection's other side
  A *carry_h_ = nullptr, *carry_c_ = nullptr;  // (B, R) or (B, H), (B, H)
};

}  // namespace cuda
}  // namespace fastrnn
