// How a call is laid out: threads, what a step's work is split by, rows a chunk. The one place where shapes are judged.
#pragma once
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "machine.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

struct Plan {
  int threads;
  // rows: every thread runs the whole pass on some rows of the batch, and meets the others only to add up weight
  // gradients; otherwise every thread takes some units and all rows, and meets the others after each step.
  bool split_rows;
  int64_t chunk_rows;  // time is cut into chunks of about so many rows: their gates stay in cache, workspace is bounded
};

enum class Pass { forward, backward };

template <class T>
inline Plan make_plan(Pass pass, const Layer& l, int64_t rows, int64_t gates, int64_t unit_blocks) {
  Plan p{std::max(1, l.threads), false, 256};
  const int64_t weights = gates * l.H * l.R() * size_of(kOperand<T>);
  const double step_flops = 2.0 * double(l.B) * double(gates) * double(l.H) * double(l.R());
  const double flops = 2.0 * double(rows) * double(gates) * double(l.H) * double(l.I + l.R());
  // Split by rows, which needs no barriers, while there are rows for good tiles: each core then reads the whole
  // recurrent matrix at each step, which has to come from its second-level cache or, with rows enough to be worth it,
  // from a near third-level one; and while each thread's own sums of weight gradients stay small.
  const int64_t sums = gates * l.H * (l.I + l.R()) * int64_t(sizeof(T));
  const bool near = weights <= (1280 << 10), less_near = machine().near_l3 && weights <= (8 << 20);
  // Tiles of few registers are low: few rows pass through many of them, each of which reads the weights anew.
  const bool low = kVectorRegisters < 32 && pass == Pass::forward && machine().near_l3 && weights >= (1 << 20) &&
                   l.B < 24 * p.threads;
  p.split_rows = p.threads > 1 && (near || less_near) && !low && l.B >= (near ? 4 : 8) * p.threads &&
                 sums * p.threads <= (64 << 20);
  // A team costs some microseconds a call and, when units are split, a barrier a step.
  if (flops < 4e5 || (!p.split_rows && step_flops < 6e4)) p.threads = 1;
  if (p.split_rows)
    p.threads = int(std::min<int64_t>(p.threads, l.B));
  else
    p.threads = int(std::min<int64_t>(p.threads, unit_blocks));
  if (p.threads == 1) p.split_rows = false;
  // Matrix tiles are so fast that it takes longer to fetch a chunk's projected input from the third-level cache than to
  // compute it: a short chunk's stays in the second, if the weights leave room there. If they do not, fewer chunks read
  // them less often.
  const int64_t all_weights = gates * l.H * (l.I + l.R()) * size_of(kOperand<T>);
  if (kMatrixTiles && pass == Pass::forward && all_weights <= (p.split_rows ? 1 : p.threads) * (1 << 20))
    p.chunk_rows = 64;
  return p;
}

// FASTRNN_LOG=plan: each call says on standard error how it is laid out.
inline void log_plan(const char* pass, const char* cell, const Layer& l, const Plan& p, bool packed) {
  static const bool wanted = [] {
    const char* what = std::getenv("FASTRNN_LOG");
    return what && std::strstr(what, "plan");
  }();
  if (!wanted) return;
  const char* split = p.threads == 1 ? "" : p.split_rows ? ", each with rows of the batch" : ", each with some units";
  std::fprintf(stderr,
               "fastrnn: %s %s T=%lld B=%lld I=%lld H=%lld P=%lld%s%s: %d thread%s%s, chunks of up to %lld rows, %s\n",
               cell, pass, (long long)l.T, (long long)l.B, (long long)l.I, (long long)l.H, (long long)l.P,
               l.batch_sizes ? " ragged" : "", l.reverse ? " reverse" : "", p.threads, p.threads == 1 ? "" : "s", split,
               (long long)p.chunk_rows, packed ? "weights packed" : "weights as they lie");
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
