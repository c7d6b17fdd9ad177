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

// The steps of a sequence as one part of the batch sees them. A part is the whole batch or, where a team splits it,
// some rows: neighbours in a dense batch; in a ragged one every n-th row, so that each step is dealt out evenly and
// no row ever changes hands. A part counts its rows of a step from 0, and its rows of all steps likewise. apart: a
// part's rows stand together in the reserve; otherwise they stand as in the batch.
class Steps {
 public:
  Steps(const Layer& l, const int64_t* begins, Workspace& ws, int part = 0, int parts = 1, bool apart = false)
      : l_(l), begins_(begins), whole_(parts == 1), apart_(apart) {
    if (!begins) {
      first_ = l.B * part / parts;
      B_ = l.B * (part + 1) / parts - first_;
      rows_before_ = first_ * l.T;
      return;
    }
    first_ = part, pitch_ = parts, offset_ = begins;
    if (!whole_) {
      int64_t* offset = ws.take<int64_t>(l.T + 1);
      offset[0] = 0;
      for (int64_t t = 0; t < l.T; ++t) {
        const int64_t batch = l.batch_sizes[t];
        offset[t + 1] = offset[t] + (batch - part + parts - 1) / parts;
        rows_before_ += batch / parts * part + std::min<int64_t>(batch % parts, part);
      }
      offset_ = offset;
    }
    B_ = batch(0);
  }
  bool whole() const { return whole_; }
  int64_t T() const { return l_.T; }
  int64_t B() const { return B_; }  // rows of the first step
  int64_t batch(int64_t t) const { return offset_ ? offset_[t + 1] - offset_[t] : B_; }
  int64_t offset(int64_t t) const { return offset_ ? offset_[t] : t * B_; }
  int64_t rows() const { return offset(l_.T); }
  // The first step whose rows begin at this row or later.
  int64_t first_from(int64_t row) const {
    return offset_ ? std::lower_bound(offset_, offset_ + l_.T, row) - offset_ : (row + B_ - 1) / B_;
  }

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
  // The same for the reserve.
  int64_t reserve_pitch() const { return apart_ ? 1 : pitch_; }
  int64_t in_reserve(int64_t t, int64_t r) const { return apart_ ? rows_before_ + offset(t) + r : in_all(t, r); }

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
  const bool whole_, apart_;
  int64_t first_ = 0, pitch_ = 1, B_, rows_before_ = 0;  // the last: of the parts before this one, of all steps
};

// Steps [first, last) of t, the part's rows [begin, begin + rows) of them.
struct Chunk {
  int64_t first, last, begin, rows;
};

// Time cut into chunks of whole steps, of about `most` rows and alike to within a step: a short one would read and write
// the sums of weight gradients for a few rows.
class Chunks {
 public:
  Chunks(const Steps& steps, int64_t most) : steps_(steps) {
    const int64_t T = steps.T(), rows = std::max<int64_t>(1, steps.rows());
    const int64_t n = std::max<int64_t>(1, (most * T + rows - 1) / rows);  // steps that hold `most` rows on average
    count_ = std::max<int64_t>(1, (T + n - 1) / n);
    each(true, [&](const Chunk& c) { rows_ = std::max(rows_, c.rows); });
  }
  int64_t rows() const { return rows_; }  // of the largest
  // body(chunk) for all of them, from the first step on or from the last
  template <class Body>
  void each(bool ascending, Body&& body) const {
    for (int64_t i = 0; i < count_; ++i) {
      const int64_t own = ascending ? i : count_ - 1 - i, first = begin(own), last = begin(own + 1);
      if (first < last) body(Chunk{first, last, steps_.offset(first), steps_.offset(last) - steps_.offset(first)});
    }
  }

 private:
  int64_t begin(int64_t chunk) const {
    return chunk == 0 ? 0 : chunk == count_ ? steps_.T() : steps_.first_from(steps_.rows() * chunk / count_);
  }
  const Steps& steps_;
  int64_t count_ = 1, rows_ = 0;
};

// The parts of a pass: one that the whole team works on, or several, each a member's, who then needs the others no more.
template <class Part>
class Parts {
  static_assert(std::is_trivially_destructible<Part>::value, "nothing destroys them");

 public:
  // make(memory, part, parts) constructs one
  template <class Make>
  Parts(const Plan& plan, Workspace& ws, Make&& make) : count_(plan.parts), parts_(ws.take<Part>(count_)) {
    for (int i = 0; i < count_; ++i) make(parts_ + i, i, count_);
  }
  int count() const { return count_; }
  const Part& operator[](int i) const { return parts_[i]; }

  // body(part, member): for the team's one part, or for this member's by itself; a team of fewer members than parts
  // deals them out.
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
