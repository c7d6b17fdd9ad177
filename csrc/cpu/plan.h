// How a call is laid out: threads, what a step's work is split by, rows a chunk. The one place where shapes are judged.
#pragma once
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "machine.h"
#include "operands.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

struct Plan {
  int threads;
  // More than one: the batch is split by rows into so many parts, and a thread runs the whole pass on one part after the
  // other, mostly a single one, and meets the others only to add up weight gradients. One: every thread takes some units
  // and all rows, and meets the others after each step.
  int parts;
  int64_t chunk_rows;  // time is cut into chunks of about so many rows: their gates stay in cache, workspace is bounded

  // What a thread has of weights of so many bytes, which it reads again and again.
  int64_t own(int64_t bytes) const { return bytes / (parts > 1 ? 1 : threads); }
};

enum class Pass { forward, backward };

// Rows of a part at least, and where each core has to read its weights from the third-level cache.
constexpr int64_t kPartRows = 4, kPartRowsFar = 8;

// Up to so many rows in all, weights are read as they lie: to pack one takes as long as its products with some forty
// rows, or with a hundred where it is far.
constexpr int64_t kUnpackedRows = 64;

// saved_parts: backward's, the parts that the reserve lies in (blocks.h). More than one: then so many it is, whatever
// this call's number of threads.
template <class T>
inline Plan make_plan(Pass pass, const Layer& l, int64_t rows, int64_t gates, int64_t unit_blocks,
                      int saved_parts = 1) {
  const int most = std::max(1, l.threads);
  Plan p{most, 1, 256};
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
  const bool by_units = step_flops >= 6e4;  // whether a step is worth the barrier after it
  // Few rows for the size of the weights, in few steps to meet after: a thread that had some of them would read, and in
  // backward make the gradients of, all weights for little work.
  const bool few = by_units && unit_blocks >= p.threads && (rows <= kUnpackedRows || (l.T <= 16 && rows <= l.H));
  const bool split_rows = !few && (near || less_near) && !low && l.B >= (near ? kPartRows : kPartRowsFar) * p.threads &&
                          sums * p.threads <= (64 << 20);
  // A team costs some microseconds a call and, when units are split, a barrier a step.
  if (flops < 4e5 || (!split_rows && !by_units)) p.threads = 1;
  if (!split_rows) p.threads = int(std::min<int64_t>(p.threads, unit_blocks));
  if (split_rows) p.parts = p.threads;
  if (saved_parts > 1) p.parts = saved_parts, p.threads = std::min(most, saved_parts);
  // Matrix tiles are so fast that it takes longer to fetch a chunk's projected input from the third-level cache than to
  // compute it: a short chunk's stays in the second, if the weights leave room there. If they do not, fewer chunks read
  // them less often.
  const int64_t all_weights = gates * l.H * (l.I + l.R()) * size_of(kOperand<T>);
  if (kMatrixTiles && pass == Pass::forward && all_weights <= (p.parts > 1 ? 1 : p.threads) * (1 << 20))
    p.chunk_rows = 64;
  // Each chunk reads and writes all sums of weight gradients. Where these come from a near third-level cache or from
  // memory, larger chunks do so less often; otherwise smaller ones, whose rows stay in the second level, are better.
  if (!kMatrixTiles && pass == Pass::backward && machine().near_l3 && sums >= (3 << 20)) p.chunk_rows = 512;
  return p;
}

// FASTRNN_LOG=plan: each call says on standard error how it is laid out.
inline void log_plan(const char* pass, const char* cell, const Layer& l, const Plan& p, bool packed) {
  static const bool wanted = [] {
    const char* what = std::getenv("FASTRNN_LOG");
    return what && std::strstr(what, "plan");
  }();
  if (!wanted) return;
  const char* split = p.threads == 1 ? "" : p.parts > 1 ? ", each with rows of the batch" : ", each with some units";
  std::fprintf(stderr,
               "fastrnn: %s %s T=%lld B=%lld I=%lld H=%lld P=%lld%s%s: %d thread%s%s, chunks of about %lld rows, %s\n",
               cell, pass, (long long)l.T, (long long)l.B, (long long)l.I, (long long)l.H, (long long)l.P,
               l.batch_sizes ? " ragged" : "", l.reverse ? " reverse" : "", p.threads, p.threads == 1 ? "" : "s", split,
               (long long)p.chunk_rows, packed ? "weights packed" : "weights as they lie");
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
