// What the blocks of a kernel that runs all steps tell one another, and how they wait for it: within a cluster through shared
// memory (Mailbox, ClusterExchange), over the device through the second-level cache (GridBarrier, GridExchange).
//
// Buffers take turns, two, or four in GridExchange. A block writes into one only after it has every other block's part of
// the step before, and a block hands out that part only after it has read the buffer that is now written: nobody overwrites
// what is still read.
//
// A block that waits too long for another gives the call up; again_kernel (persistent.cuh) then does all of it again.
#pragma once
#include "product.cuh"

namespace fastrnn {
namespace cuda {

constexpr int kMostBlocks = 16;  // of a cluster

template <class Op>
struct Resident {
  RunTable runs;
  bool down;            // in t
  int count;            // T, and one more in backward
  int rows;             // of the batch
  const Piece* w;       // [tile][k block][half][lane]
  Operand<Op> slot[2];  // [batch group][k block][lane]; both start as begin_kernel leaves them
  Piece* mail;          // GridExchange's four buffers, each like a slot; empty at the start
  int64_t mail_size;    // pieces of one
  uint32_t* counters;   // (teams), GridBarrier's, zero at the start
  uint32_t* failed;     // zero at the start: whether a block gave up
  uint32_t* status;     // the same for the host, or null
  int64_t timeout_ns;
};

// Waits until ready() for at most p.timeout_ns; negative: gives up at once, as the tests want it. The clock is slow to
// read: a short wait never asks.
template <class Op, class Ready>
FASTRNN_DEVICE bool wait_for(const Resident<Op>& p, Ready&& ready) {
  if (p.timeout_ns < 0) return false;
  if (ready()) return true;
  uint64_t start = 0;
  for (int polls = 1;; ++polls) {
    pause();
    if (ready()) return true;
    if (polls % 64 != 0) continue;
    const uint64_t now = nanoseconds();
    if (start == 0) start = now;
    if (int64_t(now - start) > p.timeout_ns) return false;
  }
}

// Says that a block gave up: to the kernel that does it again, and to the host.
template <class Op>
FASTRNN_DEVICE void give_up(const Resident<Op>& p) {
  if (thread_index() != 0) return;
  *p.failed = 1;
  if (p.status) store_system(p.status, 1);
}

// Two buffers in the shared memory of every block of a cluster, filled in turn by all of its blocks: step s reads buffer
// s % 2, for steps 1, 2, ...
struct Mailbox {
  Piece* first;
  uint64_t* bar;   // two
  int size;        // of a buffer, in pieces
  unsigned bytes;  // that reach it in a step

  static FASTRNN_BOTH unsigned shared_bytes(int size) { return 16 + 2u * unsigned(size) * 16; }

  // Others may send after the next cluster barrier.
  FASTRNN_DEVICE void begin(unsigned char* memory, int size_, int incoming) {
    size = size_, bytes = unsigned(incoming) * 16;
    first = reinterpret_cast<Piece*>(memory);
    bar = reinterpret_cast<uint64_t*>(first + 2 * size);
    if (thread_index() == 0)
      for (int s = 0; s < 2; ++s) {
        barrier_init(bar + s, 1);
        barrier_expect(bar + s, bytes);
      }
  }
  FASTRNN_DEVICE Piece* buffer(int s) const { return first + (s & 1) * size; }
  template <class Op>
  FASTRNN_DEVICE bool wait(const Resident<Op>& p, int s) const {
    const bool there = wait_for(p, [&] { return barrier_done(bar + s % 2, unsigned((s - 1) / 2) & 1); });
    sync_warp();  // lanes may have left the wait one by one, and what follows wants them together
    // armed again before this block hands out what others need before they can write here
    if (there && thread_index() == 0) barrier_expect(bar + s % 2, bytes);
    return there;
  }
  // No block may leave while others can write to it. Where a wait was given up, what nobody waited for may still be on its
  // way after that.
  FASTRNN_DEVICE void end(bool complete) const {
    sync_cluster();
    if (complete) return;
    const uint64_t start = nanoseconds();
    while (nanoseconds() - start < 50000) pause();
  }
  FASTRNN_DEVICE Remote of(int rank) const { return remote_memory(first, unsigned(rank)); }
  // Into another block's box, for its step s.
  FASTRNN_DEVICE void send(Remote to, int s, int place, const Piece& v) const {
    send_piece(to, unsigned((s & 1) * size + place) * 16, v, unsigned(2 * size) * 16 + unsigned(s & 1) * 8);
  }
};

// An exchange brings h to everyone. Begin; then for every step start(), await() and read() of the k blocks of a warp (every
// KSth from `part` on), part by part of AHEAD of PARTS, and send() with sent() after the last; and end. What says that a
// wait was too long, says it to one lane: before a matrix instruction the warp has to meet again.
template <class Op, int NT, int KS>
struct ClusterExchange {
  static constexpr bool kCluster = true;
  static constexpr int kCopies = Layout<Op>::kPerPiece;  // threads that have the same piece
  static constexpr int kRanks = kMostBlocks / kCopies;   // that each of them sends it to
  Mailbox box;                                           // buffers [batch group][k block][lane]
  int kblocks;
  Remote to[kRanks];

  static FASTRNN_BOTH unsigned shared_bytes(int kblocks) { return Mailbox::shared_bytes(NT * kblocks * 32); }

  FASTRNN_DEVICE void begin(const Resident<Op>& p, unsigned char* shared, int first_group, int pieces) {
    kblocks = p.slot[0].kblocks;
    box.begin(shared, NT * kblocks * 32, pieces);
    const Piece* initial = p.slot[0].group(first_group);
    for (int i = thread_index(); i < box.size; i += kThreads)
      box.buffer(0)[i] = box.buffer(1)[i] = load_piece(initial + i);
#pragma unroll
    for (int i = 0; i < kRanks; ++i) to[i] = box.of(rank(i) < blocks_x() ? rank(i) : 0);
    sync_cluster();
  }
  template <int PARTS, int AHEAD>
  FASTRNN_DEVICE bool start(const Resident<Op>& p, int s, int) const {
    return s == 0 || box.wait(p, s);
  }
  FASTRNN_DEVICE void await(int) const {}
  FASTRNN_DEVICE Piece read(const Resident<Op>&, int s, int, int n, int kb, bool&) const {
    return box.buffer(s)[(n * kblocks + kb) * 32 + thread_index() % 32];
  }
  static FASTRNN_DEVICE int rank(int i) { return thread_index() % 32 / 4 % kCopies + i * kCopies; }
  // For step s. The threads of a warp that have the same piece are those of one lane % 4 and, where a row has two pieces,
  // of one half of the warp.
  FASTRNN_DEVICE void send(const Resident<Op>&, int s, int place, const Piece& v) const {
#pragma unroll
    for (int i = 0; i < kRanks; ++i)
      if (rank(i) < blocks_x()) box.send(to[i], s, place, v);
  }
  FASTRNN_DEVICE void sent(const Resident<Op>&, int) const {}
  FASTRNN_DEVICE void end(bool complete) const { box.end(complete); }
};

// A barrier of all blocks of a team in a cooperative launch.
template <class Op>
struct GridBarrier {
  const Resident<Op>& p;
  // For step s. What the block's threads wrote before is written: a release carries what its thread knows by the barrier.
  FASTRNN_DEVICE void arrive() const {
    sync_threads();
    if (thread_index() == 0) add_release(p.counters + block_y(), 1);
  }
  // Until all blocks have arrived s times: the same answer for every thread of the block. One thread has seen it, and by
  // the barrier so has the block; what others wrote is then read past the first-level cache.
  FASTRNN_DEVICE bool wait(int s) const {
    const uint32_t all = uint32_t(s) * uint32_t(blocks_x());
    const bool there =
        thread_index() != 0 || wait_for(p, [&] { return int32_t(load_acquire(p.counters + block_y()) - all) >= 0; });
    return !sync_threads_or(!there);
  }
};

// How many buffers GridExchange has, and what a word of them holds until it is written. Nothing that is sent looks like it: two bf16 or fp16, or
// one TF32, that are not numbers, and such are sent by other bits.
constexpr int kBuffers = 4;
constexpr uint32_t kEmpty = 0xffffffffu, kNotANumber = 0x7fff7fffu;

FASTRNN_DEVICE bool is_whole(const Piece& v) {
  return v.w[0] != kEmpty && v.w[1] != kEmpty && v.w[2] != kEmpty && v.w[3] != kEmpty;
}

// The data tell themselves that they are there: no counter, and no fence between data and counter. A word that is not empty
// is h of this step: a block empties its part of a buffer when everyone has read that buffer, and sends no other part before
// this is done (sent()); whoever comes to the buffer again, three steps later, has a part that was sent after it.
//
// The copies are weak reads, of which the model of PTX promises less than what is wanted here: that a copy that a thread asks
// for after it has read another word finds what was written before that word. Past the first-level cache, and from one
// address on to the next in one cache, it does.
template <class Op, int NT, int KS>
struct GridExchange {
  static constexpr bool kCluster = false;
  int first_group, kblocks;
  int64_t size;         // of a buffer, in pieces
  Piece* staged;        // [k block of the warp][batch group][thread], in shared memory: a warp's part of h
  const Piece* source;  // [batch group][k block][lane], of this step

  static FASTRNN_BOTH unsigned shared_bytes(int kblocks) {
    return unsigned((kblocks + KS - 1) / KS) * NT * kThreads * unsigned(sizeof(Piece));
  }
  FASTRNN_DEVICE void begin(const Resident<Op>& p, unsigned char* shared, int group, int) {
    first_group = group, kblocks = p.slot[0].kblocks, size = p.mail_size;
    staged = reinterpret_cast<Piece*>(shared) + thread_index();
  }
  // Waits for a few pieces, and then has copies of all on their way: most will be there. Many that ask over and over keep
  // the second-level cache from what they wait for (2.6 us a step and not 2.2, LSTM of 8 rows and 1024 units), but where a
  // warp has two tiles' parts, copies begun so early come empty (3.7 and not 3.0, 16 rows).
  template <int PARTS, int AHEAD>
  FASTRNN_DEVICE bool start(const Resident<Op>& p, int s, int part) {
    source = s == 0 ? p.slot[0].group(first_group) : buffer(p, s);
    source += thread_index() % 32;
    const bool asks = s > 0 && part < kblocks && (KS < kWarps || thread_index() % 32 < 4);
    const bool there = !asks || wait_for(p, [&] { return is_whole(load_relaxed(source + part * 32)); });
    sync_warp();
    // not unrolled where the addresses of so many would not fit the registers beside the weights
#pragma unroll(PARTS > 8 ? 1 : PARTS)
    for (int first = 0; first < PARTS; first += AHEAD) {
#pragma unroll
      for (int i = first; i < first + AHEAD; ++i)
        if (part + i * KS < kblocks)
#pragma unroll
          for (int n = 0; n < NT; ++n)
            copy_piece(staged + (i * NT + n) * kThreads, source + (n * kblocks + part + i * KS) * 32);
      commit_copies();
    }
    return there;
  }
  // All of the step's parts but the last few, whose number the compiler knows.
  FASTRNN_DEVICE void await(int left) const {
    if (left >= 8)
      await_copies<8>();
    else if (left >= 4)
      await_copies<4>();
    else if (left >= 2)
      await_copies<2>();
    else if (left == 1)
      await_copies<1>();
    else
      await_copies<0>();
  }
  FASTRNN_DEVICE Piece read(const Resident<Op>& p, int s, int i, int n, int kb, bool& there) const {
    Piece v = staged[(i * NT + n) * kThreads];
    if (s > 0 && there && !is_whole(v))
      there = wait_for(p, [&] {
        v = load_relaxed(source + (n * kblocks + kb) * 32);
        return is_whole(v);
      });
    return v;
  }
  FASTRNN_DEVICE void send(const Resident<Op>& p, int s, int place, Piece v) const {
    if (thread_index() % 32 / 4 % Layout<Op>::kPerPiece != 0) return;
#pragma unroll
    for (int i = 0; i < 4; ++i) v.w[i] = v.w[i] == kEmpty ? kNotANumber : v.w[i];
    store_relaxed(buffer(p, s) + place, v);
    store_relaxed(buffer(p, s + 2) + place, Piece{{kEmpty, kEmpty, kEmpty, kEmpty}});
  }
  FASTRNN_DEVICE void sent(const Resident<Op>&, int) const { fence_device(); }
  FASTRNN_DEVICE void end(bool) const {}

 private:
  FASTRNN_DEVICE Piece* buffer(const Resident<Op>& p, int s) const {
    return p.mail + s % kBuffers * size + int64_t(first_group) * kblocks * 32;
  }
};

}  // namespace cuda
}  // namespace fastrnn
