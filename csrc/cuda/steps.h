// The recurrent part of a layer call on a GPU, and its steps: which rows run, and where they lie.
//
// The large products (x W_ih^T before, dx and the weight gradients after) are not the kernels' business: Python gives
// them to torch. Rows are packed: step t owns rows [offset(t), offset(t) + batch(t)) of every (N, ...) tensor.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "../cells/cell.h"
#include "../problem.h"

namespace fastrnn {
namespace cuda {

// T steps, B rows of the first step, H units, P projected units (0: none), R = P or H, G gates, N rows in all.
struct Call {
  int64_t T, B, H, P;
  const int64_t* batch_sizes;  // (T), on the host; null: every step has B rows
  bool reverse;
  DType dtype;  // of every tensor but gx and the reserve, which are of the arithmetic type: float, or double for f64
  bool tf32;    // fp32 products may round their operands to TF32
  void* stream;
  void* workspace;   // workspace_size() bytes, 16-byte aligned
  uint32_t* status;  // where a kernel that waited too long says so: memory of the host that the device writes; or null
  bool products;     // the caller can make the products of each step itself (dense rows, no projection): tier e
  char tier;         // 0: the plan's choice, or 'a', 'b', 'd', 'e', 'c': that one where it can run the call
  int64_t timeout_ns;  // after which a wait for other blocks gives up
  int64_t R() const { return P ? P : H; }
};

// One step of a dense batch, where the caller makes the recurrent products itself: number s in running order, with sums
// (B, outputs) of the arithmetic type, or null: zeros. The states (B, H) stand with the caller, who has filled them.
struct OneStep {
  int64_t s = -1;  // negative: all steps, products made here
  const void* sums;
  void *carry_h, *carry_c;
};

struct Forward {
  Call call;
  OneStep one;
  const void* gx;                         // (N, H, G)  x W_ih^T of a unit's gates side by side, without bias
  const void *w_hh, *b_ih, *b_hh, *w_hr;  // (G*H, R), (G*H) or null, (G*H) or null, (P, H) or null
  const void *hx, *cx;                    // (B, R), (B, H), or null: zeros
  void *y, *h_n, *c_n;                    // (N, R), (B, R), (B, H), written
  void* reserve;                          // [saved (N, H, kSaved)][c (N, H)]; null: inference
  void* hidden;                           // (N, H): h before a projection, written; null: not kept
};

struct Backward {
  Call call;
  OneStep one;
  const void *w_hh, *w_hr;
  const void *hx, *cx, *y, *reserve;
  const void *dy, *dh_n, *dc_n;  // (N, R), (B, R), (B, H), or null: zeros
  void* dg;                      // (N, kGradColumns * H) of dtype, written: the gate gradients
  void *dhx, *dcx;               // (B, R), (B, H), or null
  void* dh;                      // (N, P): gradient of h before a projection's product, written; null without one
};

// One running step, in either pass.
struct Step {
  int64_t row;     // first row of the step
  int64_t before;  // backward: first row of the step before it in the order of forward
  int batch;       // its rows; 0 past the last step
  int continuing;  // backward: rows that had that step; the others start from hx
  int last_from;   // forward: rows from here on have their last step.
  int leaving;     // backward: rows [batch, leaving) had their first step just now: their gradient goes to hx
};

// Step s in running order of a dense batch, in backward also one past the last.
inline Step dense_step(const Call& c, bool backward, int64_t s) {
  const bool down = c.reverse != backward, last = s + 1 >= c.T;
  const int64_t t = down ? c.T - 1 - s : s;
  Step z;
  z.row = t * c.B, z.before = last ? 0 : (down ? t - 1 : t + 1) * c.B;
  z.batch = s < c.T ? int(c.B) : 0;
  z.continuing = z.last_from = last ? 0 : z.batch;
  z.leaving = s > 0 ? int(c.B) : 0;
  return z;
}

inline int64_t rows_of(const Call& c) {
  int64_t rows = c.batch_sizes ? 0 : c.T * c.B;
  for (int64_t t = 0; c.batch_sizes && t < c.T; ++t) rows += c.batch_sizes[t];
  return rows;
}

// The batch sizes of a call, in the order of t: steps of equal size are one run.
class Runs {
 public:
  const int *size, *length;  // (count)

  explicit Runs(const Call& c) {
    if (!c.batch_sizes && c.T > 0) sizes_.push_back(int(c.B)), lengths_.push_back(int(c.T));
    for (int64_t t = 0; c.batch_sizes && t < c.T; ++t) {
      if (t == 0 || c.batch_sizes[t] != sizes_.back()) sizes_.push_back(int(c.batch_sizes[t])), lengths_.push_back(0);
      ++lengths_.back();
    }
    size = sizes_.data(), length = lengths_.data(), count_ = int(sizes_.size());
  }
  Runs(const Runs&) = delete;
  Runs& operator=(const Runs&) = delete;
  FASTRNN_CELL int count() const { return count_; }

 private:
  std::vector<int> sizes_, lengths_;
  int count_;
};

// The same for a kernel, passed by value.
struct RunTable {
  static constexpr int kMost = 96;
  int runs = 0;
  int size[kMost], length[kMost];

  static bool fits(const Call& c) {
    int n = 1;
    for (int64_t t = 1; c.batch_sizes && t < c.T && n <= kMost; ++t) n += c.batch_sizes[t] != c.batch_sizes[t - 1];
    return n <= kMost;
  }
  static RunTable of(const Runs& r) {
    RunTable z;
    z.runs = r.count();
    std::copy_n(r.size, r.count(), z.size);
    std::copy_n(r.length, r.count(), z.length);
    return z;
  }
  FASTRNN_CELL int count() const { return runs; }
};

// Goes through the steps in running order, up or down in t, and on past the last. A step is told by the rows of three: the
// one before it in running order, itself, and the one after it. Within a run there is nothing to look up.
template <class Table>
class Walk {
 public:
  FASTRNN_CELL Walk(const Table& table, bool down) : table_(table), down_(down), run_(down ? table.count() - 1 : 0) {
    if (table.count() == 0) return;
    take_run();
    if (down)
      for (int r = 0; r < run_; ++r) next_.row += int64_t(table.size[r]) * table.length[r];
    if (down) next_.row += int64_t(next_.batch) * (left_ - 1);
    forward();
  }
  FASTRNN_CELL Step step() const {
    Step s;
    s.row = here_.row, s.batch = here_.batch;
    s.before = next_.row;
    s.continuing = s.last_from = next_.batch < here_.batch ? next_.batch : here_.batch;
    s.leaving = last_batch_;
    return s;
  }
  FASTRNN_CELL void forward() {
    last_batch_ = here_.batch;
    here_ = next_;
    if (--left_ > 0) {
      next_.row += down_ ? -next_.batch : next_.batch;
      return;
    }
    run_ += down_ ? -1 : 1;
    if (run_ < 0 || run_ >= table_.count()) {
      next_ = Rows{};
      left_ = 0x7fffffff;
      return;
    }
    const int64_t up = next_.row + next_.batch;
    take_run();
    next_.row = down_ ? next_.row - next_.batch : up;
  }

 private:
  struct Rows {
    int64_t row = 0;  // the first
    int batch = 0;
  };
  FASTRNN_CELL void take_run() { next_.batch = table_.size[run_], left_ = table_.length[run_]; }

  const Table& table_;
  bool down_;
  int run_, left_ = 0x7fffffff, last_batch_ = 0;  // left: steps of the run from next_ on
  Rows here_, next_;
};

}  // namespace cuda
}  // namespace fastrnn
