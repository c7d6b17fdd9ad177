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
  bool matrix;      // the operand type has matrix instructions
  int per_piece;    // values of 16 bytes
  int parts;        // of the weights that a block holds
  int capacity;     // parts that the registers of its warps have room for
  unsigned blocks;  // of a team
};

struct Plan {
  char tier;
  std::string why;
};

// Why tier a or b cannot run the call; empty if it can.
inline std::string obstacle(char tier, const Call& c, const Need& n, const DeviceFacts& d) {
  if (!n.matrix) return "exact fp32 and fp64 have no matrix instructions";
  if (c.P) return "a projection is between two steps";
  if (c.T < 4) return "too few steps to pay for loading the weights";
  if (c.H % n.per_piece) return "hidden_size is no multiple of " + std::to_string(n.per_piece);
  if (!RunTable::fits(Runs(c))) return "the batch size changes too often";
  if (n.parts > n.capacity) return "the weights do not fit the registers";
  if (tier == 'a') {
    if (d.capability < 90 || d.capability >= 120) return "the device has no clusters of 16 blocks";
    if (n.blocks > 16) return "the units do not fit a cluster of 16 blocks";
  } else {
    if (d.capability < 80 || !d.cooperative) return "the device has no cooperative launches";
    if (n.blocks > unsigned(d.processors)) return "the units do not fit the device's processors";
  }
  return "";
}

// obstacle(tier): as above, for this call and device; asked only where it matters.
template <class Obstacle>
Plan make_plan(const Call& c, Obstacle&& obstacle) {
  const char wanted = c.tier ? c.tier : 'a';
  const std::string forced = c.tier ? "forced" : "";
  std::string why;
  if (wanted == 'a') {
    why = obstacle('a');
    if (why.empty()) return {'a', c.tier ? forced : "the weights fit a cluster"};
    why = "not a: " + why;
    if (c.tier) return {'c', why};
  }
  if (wanted != 'c') {
    const std::string not_b = obstacle('b');
    if (not_b.empty()) return {'b', c.tier ? forced : why};
    why += (why.empty() ? "not b: " : "; not b: ") + not_b;
  }
  return {'c', wanted == 'c' ? forced : why};
}

}  // namespace cuda
}  // namespace fastrnn
