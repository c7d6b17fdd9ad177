// The host's side of a pass: packs, starts the states, and runs the steps in the tier that the plan chose.
//
// Tier c is a kernel a step (two under a projection), any size and dtype. In every tier nothing waits, nothing is
// allocated, and everything goes to the caller's stream, so that a call can be captured in a graph.
#pragma once
#include <algorithm>

#include "persistent.cuh"

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
    w_ = weights<ForwardCell<Cell, Op>>(c_.H, c_.R());
    ring(c_.R());
    flags_ = space_.take<uint32_t>(kFlags + 1);
    carry_h_ = space_.take<A>(Cell::kReadsHPrev ? c_.B * c_.H : 0);
    carry_c_ = space_.take<A>(Cell::kHasCellState ? c_.B * c_.H : 0);
    if (c_.P) {
      w_hr_ = weights<ForwardProjection<Op>>(c_.P, c_.H);
      between_ = operand(c_.H);
    }
  }

  template <class Cell>
  void plan_backward() {
    const int64_t depth = Cell::kGates * c_.H;
    w_ = weights<BackwardCell<Cell, Op>>(c_.R(), depth);
    ring(depth);
    flags_ = space_.take<uint32_t>(kFlags + 1);
    carry_h_ = space_.take<A>(c_.B * c_.R());
    carry_c_ = space_.take<A>(Cell::kHasCellState ? c_.B * c_.H : 0);
    if (c_.P) {
      w_hr_ = weights<BackwardProjection<Op>>(c_.H, c_.P);
      between_ = operand(c_.P);
    }
  }

  template <class Cell>
  void forward(const Forward& f) {
    plan_forward<Cell>();
    const Steps steps(c_);
    const int64_t H = c_.H, R = c_.R();
    pack<ForwardCell<Cell, Op>>(f.w_hh, R, 1, H, R, w_);
    Begin<Op> start{storage(f.hx), {slot_[0], slot_[1]}, c_.B, R, elements(slot_[0]), {}, {carry_h_, carry_c_}, {}};
    start.from[0] = storage(f.hx), start.from[1] = storage(f.cx);
    start.n[0] = Cell::kReadsHPrev ? c_.B * H : 0, start.n[1] = Cell::kHasCellState ? c_.B * H : 0;
    start.flags = flags_, start.flag_count = kFlags + 1;
    begin(start);
    A* reserve = static_cast<A*>(f.reserve);
    const ForwardCell<Cell, Op> cell{
        int(H),
        c_.P != 0,
        c_.gx_native,
        f.gx,
        storage(f.b_ih),
        storage(f.b_hh),
        carry_h_,
        carry_c_,
        storage(f.y),
        storage(f.h_n),
        storage(f.c_n),
        reserve,
        reserve && Cell::kHasCellState ? reserve + steps.rows() * Cell::kSaved * H : nullptr,
        storage(f.hidden)};
    if (resident(cell, start)) return;
    if (!c_.P) {
      for (int64_t s = 0; s < c_.T; ++s) {
        const Step step = steps.forward(s);
        run(cell, step, w_, slot_[step.slot], slot_[1 - step.slot]);
      }
    } else if constexpr (Cell::kHasCellState) {
      const ForwardProjection<Op> projection{int(c_.P), storage(f.y), storage(f.h_n)};
      pack<ForwardProjection<Op>>(f.w_hr, H, 1, c_.P, H, w_hr_);
      begin(Begin<Op>{nullptr, {between_, {}}, c_.B, H, elements(between_), {}, {}, {}});
      for (int64_t s = 0; s < c_.T; ++s) {
        const Step step = steps.forward(s);
        run(cell, step, w_, slot_[step.slot], between_);
        run(projection, step, w_hr_, between_, slot_[1 - step.slot]);
      }
    }
  }

  template <class Cell>
  void backward(const Backward& f) {
    plan_backward<Cell>();
    const Steps steps(c_);
    const int64_t H = c_.H, R = c_.R(), depth = Cell::kGates * H;
    pack<BackwardCell<Cell, Op>>(f.w_hh, 1, R, R, depth, w_);
    Begin<Op> start{nullptr, {slot_[0], slot_[1]}, c_.B, depth, elements(slot_[0]), {}, {carry_h_, carry_c_}, {}};
    start.from[0] = storage(f.dh_n), start.from[1] = storage(f.dc_n);
    start.n[0] = c_.B * R, start.n[1] = Cell::kHasCellState ? c_.B * H : 0;
    start.flags = flags_, start.flag_count = kFlags + 1;
    begin(start);
    const A* reserve = static_cast<const A*>(f.reserve);
    const BackwardCell<Cell, Op> cell{
        int(H),        c_.P != 0,     storage(f.hx), storage(f.cx),
        storage(f.y),  storage(f.dy), reserve,       reserve + steps.rows() * Cell::kSaved * H,
        carry_h_,      carry_c_,      storage(f.dg), storage(f.dhx),
        storage(f.dcx)};
    if (resident(cell, start)) return;
    if (!c_.P) {
      for (int64_t s = 0; s <= c_.T; ++s) {
        const Step step = steps.backward(s);
        run(cell, step, w_, slot_[step.slot], slot_[1 - step.slot]);
      }
    } else if constexpr (Cell::kHasCellState) {
      const BackwardProjection<Op> projection{int(c_.P), storage(f.dy), carry_h_, storage(f.dh), storage(f.dhx)};
      pack<BackwardProjection<Op>>(f.w_hr, 1, H, H, c_.P, w_hr_);
      begin(Begin<Op>{nullptr, {between_, {}}, c_.B, c_.P, elements(between_), {}, {}, {}});
      for (int64_t s = 0; s <= c_.T; ++s) {
        const Step step = steps.backward(s);
        run(projection, step, w_, slot_[step.slot], between_);
        run(cell, step, w_hr_, between_, slot_[1 - step.slot]);
      }
    }
  }

  // Which tier a pass takes, and why.
  template <class Epilogue>
  Plan plan() const {
    return make_plan(c_, [&](char tier) {
      return tier == 'a' ? obstacle<Epilogue, ClusterExchange<Op, kTeam>>()
                         : obstacle<Epilogue, GridExchange<Op, kTeam>>();
    });
  }

 private:
  static constexpr int kTeam = 2;          // batch groups that resident weights serve together
  static constexpr int64_t kFlags = 1024;  // processors of any device, at least; one more says that a block gave up

  template <class Epilogue, class Exchange>
  Need need() const {
    using Sh = Share<Epilogue, Exchange::kCluster>;
    Need n;
    n.matrix = Op::kMatrix;
    n.per_piece = Layout<Op>::kPerPiece;
    n.kblocks = Layout<Op>::blocks(Epilogue::kBackward ? int64_t(Epilogue::kResults) * c_.H : c_.H);
    n.capacity = Sh::KS * Sh::KBW;
    n.blocks = unsigned((c_.H + Sh::UT * Sh::U - 1) / (Sh::UT * Sh::U));
    n.teams = unsigned((c_.B + 8 * kTeam - 1) / (8 * kTeam));
    n.shared = 0;
    if constexpr (Op::kMatrix) n.shared = resident_shared<Op, Epilogue, kTeam, Exchange>(n.kblocks);
    return n;
  }
  template <class Exchange>
  Launch resident_launch(const Need& n) const {
    Launch l;
    l.grid_x = n.blocks;
    l.grid_y = n.teams;
    l.threads = kThreads;
    l.shared = n.shared;
    l.stream = c_.stream;
    l.cluster = Exchange::kCluster ? n.blocks : 1;
    l.cooperative = !Exchange::kCluster;
    return l;
  }
  template <class Epilogue, class Exchange>
  std::string obstacle() const {
    const Need n = need<Epilogue, Exchange>();
    std::string why = cuda::obstacle(Exchange::kCluster ? 'a' : 'b', c_, n, device_facts());
    if constexpr (Op::kMatrix)
      if (why.empty() && !can_run(resident_kernel<Op, Epilogue, kTeam, Exchange>, resident_launch<Exchange>(n)))
        why = "its blocks cannot all run at once";
    return why;
  }

  // Runs all steps in one launch if the plan says so.
  template <class Epilogue>
  bool resident(const Epilogue& epi, const Begin<Op>& start) const {
    if constexpr (Op::kMatrix) {
      const char tier = plan<Epilogue>().tier;
      if (tier == 'a') run_resident<ClusterExchange<Op, kTeam>>(epi, start);
      if (tier == 'b') run_resident<GridExchange<Op, kTeam>>(epi, start);
      return tier != 'c';
    }
    return false;
  }
  template <class Exchange, class Epilogue>
  void run_resident(const Epilogue& epi, Begin<Op> start) const {
    Resident<Op> p;
    p.steps = StepTable::of(c_);
    p.count = int(c_.T) + Epilogue::kBackward;
    p.backward = Epilogue::kBackward;
    p.reverse = c_.reverse;
    p.w = reinterpret_cast<const Piece*>(w_);
    p.slot[0] = slot_[0], p.slot[1] = slot_[1];
    p.flags = flags_;
    p.failed = flags_ + kFlags;
    p.status = c_.status;
    p.timeout_ns = c_.timeout_ns;
    launch(resident_kernel<Op, Epilogue, kTeam, Exchange>, resident_launch<Exchange>(need<Epilogue, Exchange>()), epi,
           p);
    start.flag_count = 0;
    Launch again;
    again.threads = kThreads;
    again.shared = Tile<Op, Epilogue, kTeam>::kShared;
    again.stream = c_.stream;
    launch(again_kernel<Op, Epilogue, kTeam>, again, epi, p, start);
  }

  static constexpr int kMaxGroups = 4;  // batch groups a block takes at most

  static const S* storage(const void* p) { return static_cast<const S*>(p); }
  static S* storage(void* p) { return static_cast<S*>(p); }

  template <class Epilogue>
  static int64_t packed_size(int64_t units, int64_t K) {
    constexpr int U = 8 * kUnitHalves<Epilogue>;
    return (units + U - 1) / U * U * Epilogue::kOutputs * Layout<Op>::blocks(K) * Layout<Op>::kBlock;
  }
  template <class Epilogue>
  E* weights(int64_t units, int64_t K) {
    return space_.take<E>(packed_size<Epilogue>(units, K));
  }
  Operand<Op> operand(int64_t K) {
    Operand<Op> o;
    o.kblocks = Layout<Op>::blocks(K);
    o.data = space_.take<E>(elements(o));
    return o;
  }
  void ring(int64_t K) {
    for (auto& slot : slot_) slot = operand(K);
  }
  int64_t elements(const Operand<Op>& o) const { return int64_t(groups_) * o.kblocks * Layout<Op>::kBlock * 8; }

  Launch launch_for(int64_t work) const {
    Launch l;
    l.grid_x = unsigned(std::max<int64_t>(1, std::min<int64_t>((work + kThreads - 1) / kThreads, 1056)));
    l.threads = kThreads;
    l.stream = c_.stream;
    return l;
  }
  template <class Epilogue>
  void pack(const void* src, int64_t row, int64_t column, int64_t units, int64_t K, E* dst) const {
    const int64_t size = packed_size<Epilogue>(units, K);
    launch(pack_kernel<Op>, launch_for(size), storage(src), row, column, int(units), int(Epilogue::kOutputs),
           int(kUnitHalves<Epilogue>), K, Layout<Op>::blocks(K), size, dst);
  }
  void begin(const Begin<Op>& p) const {
    launch(begin_kernel<Op>, launch_for(std::max({p.elements, p.n[0], p.n[1]})), p);
  }

  template <class Epilogue>
  void run(const Epilogue& epi, const Step& step, const E* w, const Operand<Op>& in, const Operand<Op>& out) const {
    const int rows = std::max(step.batch, step.leaving);
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
  Operand<Op> slot_[2], between_;  // recurrent operand, read and written in turn; the projection's other side
  A *carry_h_ = nullptr, *carry_c_ = nullptr;  // (B, R) or (B, H), (B, H)
};

}  // namespace cuda
}  // namespace fastrnn
