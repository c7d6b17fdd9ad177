// The interface of the kernels: plain structs of sizes, strides and raw pointers. Nothing here knows of torch or Python.
//
// Sizes: T steps, B rows of the first (largest) step, I inputs, H units, P projected units (0: no projection),
//        G gates, R = P or H (the width of h), N = sum of the batch sizes (all rows of a sequence).
// Step t owns rows [offset[t], offset[t] + batch_sizes[t]); batch sizes never grow with t, so row b of every step is the
// same sequence. A dense batch is the case where every step has B rows.
#pragma once
#include <cstdint>

namespace fastrnn {

enum class DType : int { f32 = 0, f64 = 1, bf16 = 2, f16 = 3 };

inline int64_t size_of(DType d) { return d == DType::f64 ? 8 : d == DType::f32 ? 4 : 2; }

// A variable with one row per step and sequence; columns are adjacent. Strides count elements.
struct Sequence {
  void* data = nullptr;  // packed: row (t, b) at (offset[t] + b) * row;  dense: at t * step + b * row
  int64_t step = 0;
  int64_t row = 0;
};

// One layer in one direction.
struct Layer {
  int64_t T, B, I, H, P;
  const int64_t* batch_sizes;  // (T), non-increasing, the first is B; null: every step has B rows
  bool reverse;                // from the last step to the first; a row starts at its own last step
  DType dtype;                 // of every tensor below except the reserve
  int threads;                 // at most so many

  int64_t R() const { return P ? P : H; }
};

struct Weights {
  const void* w_ih;  // (G*H, I)
  const void* w_hh;  // (G*H, R)
  const void* b_ih;  // (G*H) or null
  const void* b_hh;  // (G*H) or null
  const void* w_hr;  // (P, H) or null
  // w_ih and w_hh as a call before left them packed (pack_weights, cpu/layer.h), which forward of fp32 data then may read
  // in their place, or null
  const void* packed = nullptr;
};

struct ForwardArgs {
  Layer layer;
  Weights w;
  Sequence x;      // rows of I
  const void* hx;  // (B, R) or null: zeros
  const void* cx;  // (B, H) or null: zeros
  Sequence y;      // rows of R, written
  void* h_n;       // (B, R), written; may be y.data if T = 1
  void* c_n;       // (B, H), written, cells with a cell state
  void* reserve;   // what backward needs, reserve_size() values of the arithmetic type; null: inference
};

struct BackwardArgs {
  Layer layer;
  Weights w;
  Sequence x;           // as in forward
  const void* hx;       // as in forward
  const void* cx;       // as in forward
  Sequence y;           // as written by forward
  const void* reserve;  // as written by forward; read only
  Sequence dy;          // rows of R; data null: zeros
  const void* dh_n;     // (B, R) or null: zeros
  const void* dc_n;     // (B, H) or null: zeros
  // Each output may be null: then it is neither computed nor written.
  void* dx;     // (N, I)
  void* dhx;    // (B, R)
  void* dcx;    // (B, H)
  void* dw_ih;  // (G*H, I)
  void* dw_hh;  // (G*H, R)
  void* db_ih;  // (G*H)
  void* db_hh;  // (G*H)
  void* dw_hr;  // (P, H)
};

}  // namespace fastrnn
