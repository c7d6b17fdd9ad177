// Steps, rows and parts: where row (t, b) of a sequence is, in which order steps run, and which rows a member works on.
#pragma once
#include <algorithm>
#include <new>
#include <type_traits>

#include "plan.h"
#include "team.h"
#include "workspace.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

// (T + 1) first rows of the steps of a ragged batch, and the number of all rows; null for a dense one.
inline const int64_t* step_begins(const Layer& l, Workspace& ws) {
  if (!l.batch_sizes) return nullptr;
  int64_t* begins = ws.take<int64_t>(l.T + 1);
  begins[0] = 0;
  for (int64_t t = 0; t < l.T; ++t) begins[t + 1] = begins[t] + l.batch_sizes[t];
  return begins;
}

// The steps of a sequence as one part of the batch sees them. A part is the whole batch or, where a team splits it, a
// member's rows: neighbours in a dense batch; in a ragged one every n-th row, so that each step is dealt out evenly and
// no row ever changes hands. A part counts its rows of a step from 0, and its rows of all steps likewise.
class Steps {
 public:
  Steps(const Layer& l, const int64_t* begins, Workspace& ws, int part = 0, int parts = 1)
      : l_(l), begins_(begins), whole_(parts == 1) {
    if (!begins) {
      first_ = l.B * part / parts;
      B_ = l.B * (part + 1) / parts - first_;
      return;
    }
    first_ = part, pitch_ = parts, offset_ = begins;
    if (!whole_) {
      int64_t* offset = ws.take<int64_t>(l.T + 1);
      offset[0] = 0;
      for (int64_t t = 0; t < l.T; ++t) offset[t + 1] = offset[t] + (l.batch_sizes[t] - part + parts - 1) / parts;
      offset_ = offset;
    }
    B_ = batch(0);
  }
  bool whole() const { return whole_; }
  int64_t B() const { return B_; }  // rows of the first step
  int64_t batch(int64_t t) const { return offset_ ? offset_[t + 1] - offset_[t] : B_; }
  int64_t offset(int64_t t) const { return offset_ ? offset_[t] : t * B_; }
  int64_t rows() const { return offset(l_.T); }

  // The step before / after t in running order (-1: none).
  int64_t before(int64_t t) const { return l_.reverse ? (t + 1 < l_.T ? t + 1 : -1) : t - 1; }
  int64_t after(int64_t t) const { return l_.reverse ? t - 1 : (t + 1 < l_.T ? t + 1 : -1); }

  // Rows of step t whose state comes from the step before it in running order; the others start from hx.
  int64_t continuing(int64_t t) const {
    const int64_t p = before(t);
    return p < 0 ? 0 : std::min(batch(t), batch(p));
  }

  // Where the part's row r stands in the batch, and row r of step t among all rows of all steps; from one of the part's
  // rows to the next it is `pitch` rows there.
  int64_t pitch() const { return pitch_; }
  int64_t in_batch(int64_t r) const { return first_ + r * pitch_; }
  int64_t in_all(int64_t t, int64_t r) const { return (begins_ ? begins_[t] : t * l_.B) + in_batch(r); }
  int64_t all_rows() const { return begins_ ? begins_[l_.T] : l_.T * l_.B; }

  const void* row(const Sequence& s, int64_t t, int64_t r) const { return at(s.data, l_.dtype, index(s, t, r)); }
  void* row_out(const Sequence& s, int64_t t, int64_t r) const { return at(s.data, l_.dtype, index(s, t, r)); }
  int64_t stride(const Sequence& s) const { return s.row * pitch_; }  // between the part's rows of a step

  // Whether the part's rows of all steps lie at one distance.
  bool uniform(const Sequence& s) const {
    return l_.T == 1 || (whole_ && (begins_ || l_.B == 1 || s.step == l_.B * s.row));
  }

 private:
  int64_t index(const Sequence& s, int64_t t, int64_t r) const {
    return begins_ ? in_all(t, r) * s.row : t * s.step + in_batch(r) * s.row;
  }
  const Layer& l_;
  const int64_t *begins_, *offset_ = nullptr;  // (T + 1): of all rows, of the part's; null: dense
  const bool whole_;
  int64_t first_ = 0, pitch_ = 1, B_;
};

// Steps [first, last) of t, the part's rows [begin, begin + rows) of them.
struct Chunk {
  int64_t first, last, begin, rows;
};

// Calls body(chunk) for chunks of at most chunk_rows rows, or of one step, in running order or against it.
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

// Most rows of a chunk of whole steps, about `most` or fewer: as many chunks as that makes, but alike, because a short
// last one would read and write the sums of weight gradients for a few rows.
inline int64_t even_chunk(const Steps& steps, int64_t most) {
  const int64_t rows = steps.rows(), B = steps.B(), count = (rows + most - 1) / most;
  return count < 2 ? rows : ((rows + count - 1) / count + B - 1) / B * B;
}

// The parts of a pass: one that the whole team works on, or one for each member, who then needs the others no more.
template <class Part>
class Parts {
  static_assert(std::is_trivially_destructible<Part>::value, "nothing destroys them");

 public:
  // make(memory, part, parts) constructs one
  template <class Make>
  Parts(const Plan& plan, Workspace& ws, Make&& make)
      : count_(plan.split_rows ? plan.threads : 1), parts_(ws.take<Part>(count_)) {
    for (int i = 0; i < count_; ++i) make(parts_ + i, i, count_);
  }
  int count() const { return count_; }
  const Part& operator[](int i) const { return parts_[i]; }

  // body(part, member): for the team's one part, or for this member's by itself; a team that came smaller than it was
  // planned deals the parts out.
  template <class Body>
  void each(const Member& m, Body&& body) const {
    if (count_ == 1) return body(parts_[0], m);
    m.sync();  // what was prepared for all
    for (int i = m.id; i < count_; i += m.n) body(parts_[i], Member{0, 1, m.barrier});
  }

 private:
  int count_;
  Part* parts_;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
