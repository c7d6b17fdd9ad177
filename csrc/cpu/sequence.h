// Steps, rows and shares: where row (t, b) of a sequence is, in which order steps run, and which rows a thread owns.
#pragma once
#include <algorithm>

#include "plan.h"
#include "team.h"
#include "workspace.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

class Steps {
 public:
  Steps(const Layer& l, Workspace& ws) : l_(l) {
    if (!l.batch_sizes) return;
    offset_ = ws.take<int64_t>(l.T + 1);
    offset_[0] = 0;
    for (int64_t t = 0; t < l.T; ++t) offset_[t + 1] = offset_[t] + l.batch_sizes[t];
  }
  int64_t batch(int64_t t) const { return l_.batch_sizes ? l_.batch_sizes[t] : l_.B; }
  int64_t offset(int64_t t) const { return offset_ ? offset_[t] : t * l_.B; }
  int64_t rows() const { return offset(l_.T); }

  // The s-th step to run, and the step before / after t in that order (-1: none).
  int64_t at(int64_t s) const { return l_.reverse ? l_.T - 1 - s : s; }
  int64_t before(int64_t t) const { return l_.reverse ? (t + 1 < l_.T ? t + 1 : -1) : t - 1; }
  int64_t after(int64_t t) const { return l_.reverse ? t - 1 : (t + 1 < l_.T ? t + 1 : -1); }

  // Rows of step t whose state comes from the step before it in running order; the others start from hx.
  int64_t continuing(int64_t t) const {
    const int64_t p = before(t);
    return p < 0 ? 0 : std::min(batch(t), batch(p));
  }

  const void* row(const Sequence& s, int64_t t, int64_t b) const {
    return fastrnn::at(s.data, l_.dtype, index(s, t, b));
  }
  void* row_out(const Sequence& s, int64_t t, int64_t b) const { return fastrnn::at(s.data, l_.dtype, index(s, t, b)); }

  // Whether the rows of all steps lie at one distance.
  bool uniform(const Sequence& s) const { return offset_ || l_.T == 1 || l_.B == 1 || s.step == l_.B * s.row; }

 private:
  int64_t index(const Sequence& s, int64_t t, int64_t b) const {
    return offset_ ? (offset_[t] + b) * s.row : t * s.step + b * s.row;
  }
  const Layer& l_;
  int64_t* offset_ = nullptr;
};

// Steps [first, last) of t, their rows [begin, begin + rows).
struct Chunk {
  int64_t first, last, begin, rows;
};

// Calls body(chunk) for chunks of about plan.chunk_rows rows, in running order or against it.
template <class Body>
inline void for_chunks(const Layer& l, const Steps& steps, int64_t chunk_rows, bool ascending, Body&& body) {
  int64_t done = 0;
  while (done < l.T) {
    const int64_t start = ascending ? done : l.T - 1 - done;
    int64_t rows = 0, n = 0;
    while (done + n < l.T && (n == 0 || rows + steps.batch(ascending ? start + n : start - n) <= chunk_rows)) {
      rows += steps.batch(ascending ? start + n : start - n);
      ++n;
    }
    const int64_t first = ascending ? start : start - n + 1;
    body(Chunk{first, first + n, steps.offset(first), rows});
    done += n;
  }
}

inline int64_t largest_chunk(const Layer& l, const Steps& steps, int64_t chunk_rows) {
  return std::min(steps.rows(), std::max(chunk_rows, l.B));
}

// The rows of one step that are a thread's when steps are split by rows: its part of the first `rows` of the batch, which in
// a ragged batch is another one at another step. Otherwise all.
class RowShare {
 public:
  RowShare(const Plan& plan, const Member& m, int64_t rows) : end_(rows) {
    if (plan.split_rows) m.share(rows, 1, begin_, end_);
  }
  // body(first, last) if there are any in [from, to)
  template <class Body>
  void each(int64_t from, int64_t to, Body&& body) const {
    const int64_t a = std::max(begin_, from), b = std::min(end_, to);
    if (a < b) body(a, b);
  }

 private:
  int64_t begin_ = 0, end_;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
