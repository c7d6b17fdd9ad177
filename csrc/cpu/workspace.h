// Scratch memory of one call. Kept per thread from call to call, because fresh pages cost more than a small layer.
#pragma once
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "simd.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

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
