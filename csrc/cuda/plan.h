// Which tier runs a call, and why: the one place where that is decided.
#pragma once
#include <string>

#include "steps.h"

namespace fastrnn {
namespace cuda {

struct DeviceFacts {
  int capability;  // 10 * major + minor
  int processors;
  int shared;  // bytes a block may ask for
  bool cooperative;
};

// What a tier of resident weights would need.
struct Need {
  bool backward;
  bool matrix;      // the operand type has matrix instructions
  int per_piece;    // values of 16 bytes
  int parts;        // of the weights that a block holds
  int capacity;     // parts that the registers of its warps have room for
  unsigned blocks;  // of a team
};

struct Plan {
  char tier;
  std::string why;
  int rows = 0;  // of a team; tier c: 0
};

// Multiply-adds of a step from which on a library's product and a cell's kernel are faster than a kernel of ours for both,
// in exact arithmetic and by matrix instructions (H100).
constexpr int64_t kLargeProduct = int64_t(120) << 20, kLargeMatrixProduct = int64_t(2000) << 20;

inline std::string obstacle_of_products(const Call& c, int64_t gates, bool matrix) {
  if (!c.products) return "the caller cannot make the products";
  if (!c.tier && c.B * c.H * c.H * gates < (matrix ? kLargeMatrixProduct : kLargeProduct)) return "small products";
  return "";
}

// Why a tier of one launch cannot run the call, or should not; empty if it can.
inline std::string obstacle(char tier, const Call& c, const Need& n, const DeviceFacts& d) {
  if (c.P) return "a projection is between two steps";
  if (c.T < 4) return "too few steps to pay for it";
  if (!RunTable::fits(c)) return "the batch size changes too often";
  if (tier != 'a' && (d.capability < 80 || !d.cooperative)) return "the device has no cooperative launches";
  // On an H100 its barriers cost less than launches in these cases, and more in others.
  if (tier == 'd' && n.matrix && !c.tier && (!n.backward || c.H > 1024)) return "a launch a step is faster";
  if (tier == 'd') return "";
  if (!n.matrix) return "exact fp32 and fp64 have no matrix instructions";
  if (c.H % n.per_piece) return "hidden_size is no multiple of " + std::to_string(n.per_piece);
  if (n.parts > n.capacity) return "the weights do not fit the registers";
  if (tier == 'a' && (d.capability < 90 || d.capability >= 120)) return "the device has no clusters of 16 blocks";
  if (tier == 'a' && n.blocks > 16) return "the units do not fit a cluster of 16 blocks";
  if (tier == 'b' && n.blocks > unsigned(d.processors)) return "the units do not fit the device's processors";
  return "";
}

// obstacle(tier): as above, for this call and device; asked only where it matters.
template <class Obstacle>
Plan make_plan(const Call& c, Obstacle&& obstacle) {
  if (c.tier == 'c') return {'c', "forced"};
  std::string why;
  for (const char tier : c.tier ? std::string(1, c.tier) : std::string("abed")) {
    const std::string no = obstacle(tier);
    if (no.empty()) return {tier, c.tier ? "forced" : tier == 'a' ? "the weights fit a cluster" : why};
    why += (why.empty() ? "not " : "; not ") + std::string(1, tier) + ": " + no;
  }
  return {'c', why};
}

}  // namespace cuda
}  // namespace fastrnn
