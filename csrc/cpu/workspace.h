// Scratch memory of one call. Kept per thread from call to call, because fresh pages cost more than a small layer.
#pragma once
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "simd.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

// Memory of this size comes fresh from the system at each call (glibc's allocator keeps smaller pieces), and to fault
// it in by 4 KiB pages costs as much as a twentieth of a large layer. Asks for 2 MiB pages; a wish that may be refused.
inline void prefer_huge_pages(const void* p, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t page = uintptr_t(2) << 20;
  if (!p || bytes < (int64_t(32) << 20)) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(p) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(p) + uintptr_t(bytes)) / page * page;
  if (begin < end) (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)p, (void)bytes;
#endif
}

class Workspace {
 public:
  Workspace() : store_(storage()) { store_.used = 0; }
  ~Workspace() {
    // one block of the size just needed serves the next call whole; very large ones are given back
    size_t total = 0;
    for (auto& b : store_.blocks) total += b.size;
    if (store_.blocks.size() > 1 || total > kKept) {
      store_.blocks.clear();
      if (total <= kKept) store_.wanted = total;
    }
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // count values, 64-byte aligned, not initialised; four vectors more may be read behind them
  template <class T>
  T* take(int64_t count) {
    const size_t bytes = (size_t(count) * sizeof(T) + 4 * kVectorBytes + 63) / 64 * 64;
    if (store_.blocks.empty() || store_.used + bytes > store_.blocks.back().size) {
      const size_t size = bytes > store_.wanted ? bytes : store_.wanted;
      void* p = std::aligned_alloc(64, size);
      if (!p) throw std::bad_alloc();
      prefer_huge_pages(p, int64_t(size));
      store_.blocks.push_back(Block{std::unique_ptr<void, Free>(p), size});
      store_.wanted = 1 << 16;
      store_.used = 0;
    }
    char* p = static_cast<char*>(store_.blocks.back().memory.get()) + store_.used;
    store_.used += bytes;
    return reinterpret_cast<T*>(p);
  }

 private:
  static constexpr size_t kKept = size_t(256) << 20;
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  struct Block {
    std::unique_ptr<void, Free> memory;
    size_t size;
  };
  struct Storage {
    std::vector<Block> blocks;
    size_t used = 0, wanted = 1 << 16;
  };
  static Storage& storage() {
    static thread_local Storage s;
    return s;
  }
  Storage& store_;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
