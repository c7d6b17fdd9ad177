// The recurrent part of a layer call on a GPU, and its steps: which rows run, and where they lie.
//
// The large products (x W_ih^T before, dx and the weight gradients after) are not the kernels' business: Python gives
// them to torch. Rows are packed: step t owns rows [offset(t), offset(t) + batch(t)) of every (N, ...) tensor.
#pragma once
#include <stddef.h>

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
  char tier;         // 0: the plan's choice, or 'a', 'b', 'c': that one where it can run the call
  int64_t timeout_ns;  // after which a wait for other blocks gives up
  int64_t R() const { return P ? P : H; }
};

struct Forward {
  Call call;
  const void* gx;                         // (N, H, G)  x W_ih^T of a unit's gates side by side, without bias
  const void *w_hh, *b_ih, *b_hh, *w_hr;  // (G*H, R), (G*H) or null, (G*H) or null, (P, H) or null
  const void *hx, *cx;                    // (B, R), (B, H), or null: zeros
  void *y, *h_n, *c_n;                    // (N, R), (B, R), (B, H), written
  void* reserve;                          // [saved (N, H, kSaved)][c (N, H)]; null: inference
  void* hidden;                           // (N, H): h before a projection, written; null: not kept
};

struct Backward {
  Call call;
  const void *w_hh, *w_hr;
  const void *hx, *cx, *y, *reserve;
  const void *dy, *dh_n, *dc_n;  // (N, R), (B, R), (B, H), or null: zeros
  void* dg;                      // (N, kGradColumns * H) of dtype, written: the gate gradients
  void *dhx, *dcx;               // (B, R), (B, H), or null
  void* dh;                      // (N, P): gradient of h before a projection's product, written; null without one
};

// One running step, in either pass. Two loads of 16 bytes.
struct alignas(16) Step {
  int64_t row;     // first row of the step
  int64_t before;  // first row of the step before it in the order of forward
  int batch;       // its rows; 0 past the last step
  int continuing;  // rows that had that step; the others start from hx
  int last_from;   // forward: rows from here on have their last step.
  int leaving;     // backward: rows [batch, leaving) had their first step just now: their gradient goes to hx
};

// The steps in running order. `Sizes` has batch(t), 0 outside [0, T), and offset(t).
template <class Sizes>
FASTRNN_CELL Step step_at(const Sizes& z, int64_t t, bool reverse) {
  const int64_t before = reverse ? t + 1 : t - 1;
  Step r{};
  r.batch = int(z.batch(t));
  r.row = r.batch ? z.offset(t) : 0;
  r.continuing = int(z.batch(before) < z.batch(t) ? z.batch(before) : z.batch(t));
  r.before = r.continuing ? z.offset(before) : 0;
  return r;
}
// The s-th step of forward, s < T.
template <class Sizes>
FASTRNN_CELL Step forward_step(const Sizes& z, int64_t s, int64_t T, bool reverse) {
  const int64_t t = reverse ? T - 1 - s : s, next = reverse ? t - 1 : t + 1;
  Step r = step_at(z, t, reverse);
  r.last_from = int(z.batch(next) < z.batch(t) ? z.batch(next) : z.batch(t));
  return r;
}
// The s-th step of backward; s = T: only what reaches hx and cx.
template <class Sizes>
FASTRNN_CELL Step backward_step(const Sizes& z, int64_t s, int64_t T, bool reverse) {
  const int64_t t = reverse ? s : T - 1 - s, next = reverse ? t - 1 : t + 1;
  Step r = step_at(z, t, reverse);
  r.leaving = int(s == 0 ? 0 : z.batch(next));
  return r;
}

// The sizes of a call's steps, on the host.
class Steps {
 public:
  explicit Steps(const Call& c) : c_(c) {
    if (!c.batch_sizes) return;
    offset_.resize(size_t(c.T + 1));
    for (int64_t t = 0; t < c.T; ++t) offset_[size_t(t + 1)] = offset_[size_t(t)] + c.batch_sizes[t];
    offsets_ = offset_.data();
  }
  Steps(const Steps&) = delete;
  Steps& operator=(const Steps&) = delete;
  FASTRNN_CELL int64_t batch(int64_t t) const {
    return t < 0 || t >= c_.T ? 0 : c_.batch_sizes ? c_.batch_sizes[t] : c_.B;
  }
  FASTRNN_CELL int64_t offset(int64_t t) const { return offsets_ ? offsets_[t] : t * c_.B; }
  int64_t rows() const { return offset(c_.T); }
  Step forward(int64_t s) const { return forward_step(*this, s, c_.T, c_.reverse); }
  Step backward(int64_t s) const { return backward_step(*this, s, c_.T, c_.reverse); }

 private:
  const Call& c_;
  std::vector<int64_t> offset_;
  const int64_t* offsets_ = nullptr;  // (T + 1), or null
};

// The same for a kernel, passed by value: steps of equal batch size are one run. More runs than it holds go step by step.
struct StepTable {
  static constexpr int kMost = 96;
  int64_t T = 0;
  int runs = 0;
  int until[kMost], size[kMost];  // run r ends before step until[r]
  int64_t start[kMost];           // its first row

  static bool fits(const Call& c) { return c.T < (int64_t(1) << 31) - 1 && count(c) <= kMost; }
  static int count(const Call& c) {
    int n = 1;
    for (int64_t t = 1; c.batch_sizes && t < c.T && n <= kMost; ++t) n += c.batch_sizes[t] != c.batch_sizes[t - 1];
    return n;
  }
  static StepTable of(const Call& c) {
    StepTable z;
    z.T = c.T;
    int64_t row = 0;
    for (int64_t t = 0; t < c.T; ++t) {
      const int64_t n = c.batch_sizes ? c.batch_sizes[t] : c.B;
      if (t == 0 || n != z.size[z.runs - 1]) {
        z.size[z.runs] = int(n);
        z.start[z.runs++] = row;
      }
      z.until[z.runs - 1] = c.batch_sizes ? int(t + 1) : int(c.T);
      row += n;
      if (!c.batch_sizes) break;
    }
    return z;
  }

  // Sizes as Steps has them.
  FASTRNN_CELL int run_of(int64_t t) const {
    int r = 0;
    while (until[r] <= t) ++r;
    return r;
  }
  FASTRNN_CELL int64_t batch(int64_t t) const { return t < 0 || t >= T ? 0 : size[run_of(t)]; }
  FASTRNN_CELL int64_t offset(int64_t t) const {
    const int r = run_of(t);
    return start[r] + (t - (r ? until[r - 1] : 0)) * size[r];
  }
};

}  // namespace cuda
}  // namespace fastrnn
