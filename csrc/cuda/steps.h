// The recurrent part of a layer call on a GPU, and its steps: which rows run, and where they lie.
//
// The large products (x W_ih^T before, dx and the weight gradients after) are not the kernels' business: Python gives
// them to torch. Rows are packed: step t owns rows [offset(t), offset(t) + batch(t)) of every (N, ...) tensor.
#pragma once
#include <stddef.h>

#include <cstdint>
#include <vector>

#include "../problem.h"

namespace fastrnn {
namespace cuda {

// T steps, B rows of the first step, H units, P projected units (0: none), R = P or H, G gates, N rows in all.
struct Call {
  int64_t T, B, H, P;
  const int64_t* batch_sizes;  // (T), on the host; null: every step has B rows
  bool reverse;
  DType dtype;     // of every tensor but gx, dg and the reserve
  bool gx_native;  // gx is of the arithmetic type (float, or double for f64), not of dtype
  bool tf32;       // fp32 products may round their operands to TF32
  void* stream;
  void* workspace;  // workspace_size() bytes, 16-byte aligned
  int64_t R() const { return P ? P : H; }
};

struct Forward {
  Call call;
  const void* gx;                         // (N, G*H)  x W_ih^T, without bias
  const void *w_hh, *b_ih, *b_hh, *w_hr;  // (G*H, R), (G*H) or null, (G*H) or null, (P, H) or null
  const void *hx, *cx;                    // (B, R), (B, H), or null: zeros
  void *y, *h_n, *c_n;                    // (N, R), (B, R), (B, H), written
  void* reserve;                          // [saved (N, kSaved, H)][c (N, H)] of the arithmetic type; null: inference
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

// One running step, in either pass.
struct Step {
  int64_t row;     // first row of the step
  int batch;       // its rows; 0 past the last step
  int64_t before;  // first row of the step before it in the order of forward
  int continuing;  // rows that had that step; the others start from hx
  int last_from;   // forward: rows from here on have their last step.
  int leaving;     // backward: rows [batch, leaving) had their first step just now: their gradient goes to hx
  int slot;        // which of the two operand buffers is read; the other is written
};

// The steps of a call, on the host.
class Steps {
 public:
  explicit Steps(const Call& c) : c_(c) {
    if (!c.batch_sizes) return;
    offset_.resize(size_t(c.T + 1));
    for (int64_t t = 0; t < c.T; ++t) offset_[size_t(t + 1)] = offset_[size_t(t)] + c.batch_sizes[t];
  }
  int64_t batch(int64_t t) const { return t < 0 || t >= c_.T ? 0 : c_.batch_sizes ? c_.batch_sizes[t] : c_.B; }
  int64_t offset(int64_t t) const { return offset_.empty() ? t * c_.B : offset_[size_t(t)]; }
  int64_t rows() const { return offset(c_.T); }

  // The s-th step of forward, s < T.
  Step forward(int64_t s) const {
    const int64_t t = c_.reverse ? c_.T - 1 - s : s, next = c_.reverse ? t - 1 : t + 1;
    Step r = step(t);
    r.last_from = int(batch(next) < batch(t) ? batch(next) : batch(t));
    r.slot = int(s & 1);
    return r;
  }
  // The s-th step of backward; s = T: only what reaches hx and cx.
  Step backward(int64_t s) const {
    const int64_t t = c_.reverse ? s : c_.T - 1 - s, next = c_.reverse ? t - 1 : t + 1;
    Step r = step(t);
    r.leaving = int(s == 0 ? 0 : batch(next));
    r.slot = int(s & 1);
    return r;
  }

 private:
  Step step(int64_t t) const {
    const int64_t before = c_.reverse ? t + 1 : t - 1;
    Step r{};
    r.batch = int(batch(t));
    r.row = r.batch ? offset(t) : 0;
    r.continuing = int(batch(before) < batch(t) ? batch(before) : batch(t));
    r.before = r.continuing ? offset(before) : 0;
    return r;
  }
  const Call& c_;
  std::vector<int64_t> offset_;
};

}  // namespace cuda
}  // namespace fastrnn
