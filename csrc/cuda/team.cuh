// The persistent kernel of a tier for one pass, and how many batch groups of 8 rows its teams take.
#pragma once
#include <type_traits>

#include "persistent.cuh"
#include "scatter.cuh"

namespace fastrnn {
namespace cuda {

template <class Op, class Epilogue, char TIER>
class Persistent {
  static constexpr bool CLUSTER = TIER == 'a', kStepped = TIER == 'd', kScatter = CLUSTER && Epilogue::kBackward;
  // Sums and states of more groups than this do not fit the registers beside the weights of so many k blocks.
  static constexpr int kMostGroups = kStepped ? (Op::kMatrix ? 4 : 2) : CLUSTER || Epilogue::kBackward ? 2 : 4;
  static constexpr bool kAny = Op::kMatrix || kStepped;  // kernels
  template <int NT>
  using Sh = Share<Epilogue, CLUSTER, NT>;
  using Sc = Scatter<Op, Epilogue::kResults>;
  template <int NT>
  using Exchange = std::conditional_t<CLUSTER, ClusterExchange<Op, NT, Sh<NT>::KS>, GridExchange<Op, NT, Sh<NT>::KS>>;

 public:
  // Units that k of a packed operand runs through before the next result's, see Operand.
  static int64_t spread(const Call& c) { return kScatter ? Sc::kUnits : c.H; }
  static int kblocks(const Call& c) {
    if (kScatter) return Sc::blocks(c.H) * Sc::KB;
    return Layout<Op>::blocks(Epilogue::kBackward ? int64_t(Epilogue::kResults) * c.H : c.H);
  }

  explicit Persistent(const Call& c) : c_(c) {}

  std::string obstacle(const DeviceFacts& d) const {
    Need n;
    n.backward = Epilogue::kBackward;
    n.matrix = Op::kMatrix;
    n.per_piece = Layout<Op>::kPerPiece;
    n.parts = kScatter ? int((c_.H + 15) / 16) : kblocks(c_);
    n.capacity = kScatter ? Sc::kMost / 16 : Sh<1>::KS * Sh<1>::KBW;
    n.blocks = blocks<kMostGroups >= 2 ? 2 : 1>();  // the fewest
    std::string why = cuda::obstacle(TIER, c_, n, d);
    if constexpr (kAny)
      if (why.empty() && best(d).cost < 0) why = "its blocks cannot all run at once";
    return why;
  }

  // use(kernel, launch), of the cheapest team. There must be no obstacle.
  template <class Use>
  void with_team(Use&& use) const {
    const int groups = best(device_facts()).groups;
    if (groups == 1) use(kernel<1>(), launch_of<1>());
    if (groups == 2) use(kernel<2>(), launch_of<2>());
    if constexpr (kMostGroups >= 4)
      if (groups == 4) use(kernel<4>(), launch_of<4>());
  }

  // Rows of a team.
  int rows() const {
    if constexpr (kAny) return 8 * best(device_facts()).groups;
    return 0;
  }

 private:
  template <int NT>
  unsigned blocks() const {
    constexpr int kUnits = Sh<NT>::UT * Sh<NT>::U;
    if (kStepped) return 1;
    return unsigned(kScatter ? Sc::blocks(c_.H) : (c_.H + kUnits - 1) / kUnits);
  }
  // Of a step.
  template <int NT>
  int64_t tiles() const {
    constexpr int U = Tile<Op, Epilogue, NT>::U;
    return (c_.H + U - 1) / U * ((c_.B + 8 * NT - 1) / (8 * NT));
  }
  template <int NT>
  static constexpr auto kernel() {
    if constexpr (kStepped)
      return stepped_kernel<Op, Epilogue, NT>;
    else if constexpr (kScatter)
      return scatter_kernel<Op, Epilogue, NT>;
    else
      return gather_kernel<Op, Epilogue, NT, Exchange<NT>>;
  }
  template <int NT>
  Launch launch_of() const {
    Launch l;
    l.grid_x = blocks<NT>();
    l.grid_y = kStepped ? 1 : unsigned((c_.B + 8 * NT - 1) / (8 * NT));
    l.threads = kThreads;
    if constexpr (kStepped)
      l.shared = Tile<Op, Epilogue, NT>::kShared;
    else if constexpr (kScatter)
      l.shared = Sc::shared_bytes(int(l.grid_x), NT);
    else
      l.shared = gather_shared<Op, Epilogue, NT, Exchange<NT>>(kblocks(c_));
    l.stream = c_.stream;
    l.cluster = CLUSTER ? l.grid_x : 1;
    l.cooperative = !CLUSTER;
    if (kStepped) l.grid_x = unsigned(std::min(tiles<NT>(), at_once(kernel<NT>(), l)));
    return l;
  }

  struct Team {
    int groups;
    int64_t cost;  // negative: cannot run
  };
  // Clusters that find no place come after the others, and blocks of tier d have several tiles. A step of NT groups takes
  // about 2 + NT.
  template <int NT>
  void consider(Team& best, const DeviceFacts& d) const {
    const Launch l = launch_of<NT>();
    if (l.grid_y > 65535) return;
    if (l.shared > unsigned(d.shared)) return;
    if (TIER == 'b' && int64_t(l.grid_x) * l.grid_y > d.processors) return;
    const int64_t room = kStepped ? l.grid_x : at_once(kernel<NT>(), l);
    const int64_t wanted = kStepped ? tiles<NT>() : CLUSTER ? l.grid_y : int64_t(l.grid_x) * l.grid_y;
    if (room == 0 || (TIER == 'b' && room < wanted)) return;
    const int64_t cost = (wanted + room - 1) / room * (2 + NT);
    if (best.cost < 0 || cost < best.cost) best = {NT, cost};
  }
  Team best(const DeviceFacts& d) const {
    Team t{0, -1};
    consider<1>(t, d);
    consider<2>(t, d);
    if constexpr (kMostGroups >= 4) consider<4>(t, d);
    return t;
  }

  const Call& c_;
};

}  // namespace cuda
}  // namespace fastrnn
