// The CPU building blocks for one vector width: exp-based functions, storage types, transposition, the tile.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "../../csrc/cpu/math.h"
#include "../../csrc/cpu/pack.h"
#include "../../csrc/cpu/unpacked.h"
#include "check.h"

using namespace fastrnn;

template <bool Divides>
void check_functions() {
  using M = Math<float, Divides>;
  constexpr bool corrected = kApproximates && !Divides;  // quotients by approximation may be a unit off
  constexpr int L = kLanes<float>;
  constexpr double most = kPairs ? 2e-5 : corrected ? 2e-7 : 1.5e-7, most_relative = kPairs ? 3e-5 : 4e-7;
  float largest = 0;
  double worst_tanh = 0, worst_sigmoid = 0, worst_relative = 0;
  for (double x = -20; x < 20; x += 1e-4) {
    const float f = float(x);
    const float t = M::tanh(broadcast(f))[L - 1], s = M::sigmoid(broadcast(f))[0];
    worst_tanh = std::max(worst_tanh, std::abs(t - std::tanh(double(f))));
    largest = std::max(largest, std::abs(t));
    worst_sigmoid = std::max(worst_sigmoid, std::abs(s - 1 / (1 + std::exp(-double(f)))));
    if (f != 0) worst_relative = std::max(worst_relative, std::abs(t / std::tanh(double(f)) - 1));
  }
  CHECK(largest <= 1, "tanh of %g", largest);  // 1 - tanh^2 is not negative
  CHECK(worst_tanh < most, "tanh error %g", worst_tanh);
  CHECK(worst_sigmoid < most, "sigmoid error %g", worst_sigmoid);
  CHECK(worst_relative < most_relative, "relative tanh error %g", worst_relative);
  for (double x : {1e-30, 1e-10, 1e-5}) {
    const float t = M::tanh(broadcast(float(x)))[0];
    CHECK(std::abs(t / x - 1) < (kPairs ? 3e-5 : 2e-7), "tanh(%g) = %g", x, t);
  }
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  // what a cell forgets, 1 - f, to as many digits as a number below 1 leaves it
  for (double x : {3.0, 6.0, 9.0, 12.0}) {
    const double forgotten = 1 - double(M::sigmoid(broadcast(float(x)))[0]), exact = 1 / (1 + std::exp(x));
    CHECK(std::abs(forgotten - exact) < 3e-5 * exact + 1.2e-7, "1 - sigmoid(%g) = %g", x, forgotten);
  }
  const float off = corrected ? 6e-8f : 0;
  CHECK(std::abs(1 - M::tanh(broadcast(inf))[0]) <= off && std::abs(1 + M::tanh(broadcast(-inf))[0]) <= off,
        "tanh(inf)");
  CHECK(std::abs(1 - M::sigmoid(broadcast(inf))[0]) <= off, "sigmoid(inf)");
  CHECK(std::abs(M::sigmoid(broadcast(-inf))[0]) < 1e-37, "sigmoid(-inf)");
  CHECK(std::isnan(M::tanh(broadcast(nan))[0]) && std::isnan(M::sigmoid(broadcast(nan))[0]), "nan");
  CHECK(std::isnan(M::relu(broadcast(nan))[0]), "relu(nan)");
}

void check_fp64_functions() {
  for (double x : {-800.0, -3.5, 0.0, 1e-9, 2.0, 800.0}) {
    CHECK(Math<double>::tanh(broadcast(x))[0] == std::tanh(x), "fp64 tanh(%g)", x);
    CHECK(Math<double>::sigmoid(broadcast(x))[0] == 1 / (1 + std::exp(-x)), "fp64 sigmoid(%g)", x);
  }
}

// Conversions are written for vectors; each is tried on its lanes.
template <Vec<float> (*From)(Lanes32)>
float one_from(uint16_t h) {
  return From(uint32_t(h) + Lanes32{})[kLanes<float> - 1];
}
template <Lanes32 (*To)(Vec<float>)>
uint16_t one_to(float f) {
  return uint16_t(To(broadcast(f))[0]);
}

// Every 16-bit value survives; a value between two neighbours goes to the nearer, a tie to the even one.
template <class From, class To>
void check_storage(From from, To to, uint16_t infinity, const char* name) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float f = from(uint16_t(h));
    const bool is_nan = (h & 0x7fffu) > infinity;
    CHECK(is_nan ? std::isnan(f) && std::isnan(from(to(f))) : to(f) == h, "%s %#x", name, h);
  }
  for (uint16_t h = 0; h + 1 < infinity; ++h) {
    const double low = from(h), high = from(uint16_t(h + 1));
    const float middle = float((low + high) / 2);  // exact: one bit more than the type has
    CHECK(to(middle) == (h % 2 ? h + 1 : h), "%s tie above %#x", name, h);
    CHECK(to(std::nextafterf(middle, 0)) == h, "%s below the tie above %#x", name, h);
    CHECK(to(std::nextafterf(middle, std::numeric_limits<float>::infinity())) == h + 1, "%s above the tie above %#x",
          name, h);
    CHECK(to(-middle) == (0x8000 | to(middle)), "%s sign of %#x", name, h);
  }
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(to(inf) == infinity && to(-inf) == (0x8000 | infinity), "%s infinity", name);
  CHECK(to(std::numeric_limits<float>::max()) == infinity, "%s overflow", name);
}

template <class T>
void check_pack() {
  constexpr int L = kLanes<T>;
  const int64_t N = 2 * L + 1, K = L + 3;
  std::vector<T> w(size_t(N * K)), packed(size_t(K * 3 * L));
  for (size_t i = 0; i < w.size(); ++i) w[i] = T(i + 1);
  // any row, none, the last one
  const auto row = [&](int64_t j) -> const void* {
    return j % 3 == 1 || j >= N ? nullptr : &w[size_t((N - 1 - j) * K)];
  };
  pack_panel(packed.data(), 3, kNative<T>, K, row);
  for (int64_t k = 0; k < K; ++k)
    for (int64_t j = 0; j < 3 * L; ++j) {
      const T* from = static_cast<const T*>(row(j));
      CHECK(packed[size_t(k * 3 * L + j)] == (from ? from[k] : T(0)), "packed (%d, %d)", int(k), int(j));
    }
}

// What goes past the caches is the same as what does not: of operands as they are stored, bf16 or T.
template <class T>
void check_past_caches() {
  constexpr DType d = kOperand<T>;
  constexpr int64_t L = kLanes<T>, K = 2 * L + 4, n = 3 * L + 2, size = panels<T>(n) * panel_words(n) * 2 * L;
  std::vector<unsigned char> w(size_t(n * K * size_of(d)));
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<unsigned char>(i * 7 % 63);  // bytes of small numbers
  const auto packed = [&](auto&& pack) {
    T* memory = static_cast<T*>(std::aligned_alloc(64, size_t(size) * sizeof(T)));
    std::memset(memory, 0, size_t(size) * sizeof(T));
    pack(memory);
    stores_seen();
    std::vector<T> result(memory, memory + size);
    std::free(memory);
    return result;
  };
  const auto row = [&](int64_t j) -> const void* { return j % 5 == 3 || j >= n ? nullptr : at(w.data(), d, j * K); };
  const auto cached = packed([&](T* to) { pack_panel<T>(to, 3, d, K, row); });
  CHECK(cached == packed([&](T* to) { pack_panel<T, true>(to, 3, d, K, row); }), "pack_panel");
  CHECK(std::count(cached.begin(), cached.end(), T(0)) < size, "pack_panel packs");
  const auto rows = [&](bool past) {
    return packed([&](T* to) {
      RowPacker<T> packer(to, panel_words(n), d, K, 0, panels<T>(K), past);
      for (int64_t k = 0; k < n - 1; ++k) packer.add(at(w.data(), d, k * K));
      packer.finish();
    });
  };
  CHECK(rows(false) == rows(true), "RowPacker");
}

// Each number of lanes, at the very end of the memory: nothing behind it is touched.
template <class T>
void check_parts() {
  constexpr int L = kLanes<T>;
  for (int64_t n = 0; n < L; ++n) {
    std::vector<T> in(static_cast<size_t>(n)), out(static_cast<size_t>(n) + 1, T(-1));
    for (int64_t i = 0; i < n; ++i) in[size_t(i)] = T(i + 1);
    const Vec<T> v = load_part(in.data(), n);
    for (int l = 0; l < L; ++l) CHECK(v[l] == (l < n ? T(l + 1) : T(0)), "load_part %d lane %d", int(n), l);
    store_part(out.data(), v + T(1), n);
    for (int64_t i = 0; i <= n; ++i) CHECK(out[size_t(i)] == (i < n ? T(i + 2) : T(-1)), "store_part %d", int(n));
  }
}

template <class T, int NV>
void check_product() {
  constexpr int L = kLanes<T>;
  constexpr int64_t W = NV * L;
  std::mt19937 random(1);
  std::uniform_real_distribution<double> uniform(-1, 1);
  for (int64_t rows : {1, 2, 3, 5, 6, 7, 11, 12, 13, 29})
    for (int64_t K : {0, 1, 3, 64, 130, 401}) {
      std::vector<T> a(size_t(rows * (K + 2) + 1)), panel(size_t(K * W + 1)), bias(static_cast<size_t>(W)),
          out(size_t(rows * W));
      for (auto* v : {&a, &panel, &bias})
        for (T& x : *v) x = T(uniform(random));
      for (const From<T>& from : {From<T>{}, From<T>{true, nullptr}, From<T>{true, panel.data()}}) {
        panel_product<T, NV>(rows, K, a.data(), K + 2, panel.data(), bias.data(), out.data(), W, from);
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t j = 0; j < W; ++j) {
            double sum = bias[size_t(j)];
            for (int64_t k = 0; k < K; ++k)
              sum += double(a[size_t(r * (K + 2) + k)]) * double(panel[size_t(k * W + j)]);
            CHECK(std::abs(sum - out[size_t(r * W + j)]) < (sizeof(T) == 8 ? 1e-13 : 2e-5), "product %d %d %d",
                  int(rows), int(K), NV);
          }
      }
    }
}

// Random values that end where memory ends: who reads behind them dies.
template <class T>
class AtTheEnd {
 public:
  AtTheEnd(int64_t count, std::mt19937& random) {
    const size_t page = size_t(sysconf(_SC_PAGESIZE)), bytes = size_t(count) * sizeof(T);
    size_ = (bytes + page - 1) / page * page + page;
    base_ = static_cast<char*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CHECK(base_ != MAP_FAILED && mprotect(base_ + size_ - page, page, PROT_NONE) == 0, "mmap");
    values_ = reinterpret_cast<T*>(base_ + size_ - page - bytes);
    std::uniform_real_distribution<double> uniform(-1, 1);
    for (int64_t i = 0; i < count; ++i) values_[i] = T(uniform(random));
  }
  AtTheEnd(const AtTheEnd&) = delete;
  ~AtTheEnd() { munmap(base_, size_); }
  const T* data() const { return values_; }

 private:
  char* base_;
  size_t size_;
  T* values_;
};

// Dot products of rows with weights as they lie: of one row by each of its loops, and of several; with lanes that are not
// there.
template <class T>
void check_unpacked() {
  constexpr int L = kLanes<T>, NV = 2;
  constexpr double most = sizeof(T) == 8 ? 1e-13 : 3e-5;
  std::mt19937 random(2);
  std::vector<T> bias(size_t(NV * L), T(0.5));
  for (int64_t K : {1, 3, 16, 33, 64, 130})
    for (int64_t last = 1; last <= L; ++last) {
      const int64_t n[NV] = {L + 3, last};  // more than a vector are a vector
      const AtTheEnd<T> w((L + last) * K, random);
      for (int64_t rows : {1, 2, 3, 4, 7, 8}) {
        const AtTheEnd<T> a(rows * K, random);
        const auto expected = [&](int64_t r, int64_t j) {
          double sum = 0;
          for (int64_t k = 0; k < K; ++k) sum += double(a.data()[r * K + k]) * double(w.data()[j * K + k]);
          return sum;
        };
        for (bool far : {false, true}) {
          std::vector<T> out(size_t(rows * NV * L), T(-7));
          unpacked_product<T, NV>(rows, K, a.data(), K, w.data(), L, n, bias.data(), out.data(), far);
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t j = 0; j < NV * L; ++j) {
              const double sum = 0.5 + (j < L + last ? expected(r, j) : 0), found = out[size_t(r * NV * L + j)];
              CHECK(std::abs(sum - found) < most, "unpacked, row %d of %d, K %d", int(r), int(rows), int(K));
            }
        }
        if (rows > 1) continue;
        const T* tail = w.data() + L * K;
        constexpr int Q = L < 4 ? L : 4;
        const Vec<T> ways[] = {dot_products_of_row<T, 1, true>(K, a.data(), tail, last),
                               dot_products_of_row<T, 1, false>(K, a.data(), tail, last),
                               dot_products_of_row<T, Q, false>(K, a.data(), tail, last)};
        for (const Vec<T>& v : ways)
          for (int l = 0; l < L; ++l)
            CHECK(l < last ? std::abs(v[l] - expected(0, L + l)) < most : v[l] == 0, "lane %d of %d, K %d", l,
                  int(last), int(K));
      }
    }
}

// A slice is dealt out whole and in order, nothing of it to the first tile, little more than there is.
void check_shares() {
  static const char slice[1] = {};
  for (int64_t tiles : {1, 2, 3, 7})
    for (int64_t bytes : {0, 64, 128, 4096, 32768}) {
      Shares shares(slice, bytes, tiles), none(nullptr, bytes, tiles);
      const Ahead first = shares.take();
      CHECK(first.first == first.last && !none.take().last, "shares of the first tile");
      const char* end = slice;
      for (int64_t i = 1; i < tiles; ++i) {
        const Ahead own = shares.take(), nothing = none.take();
        CHECK(own.first == end && own.last >= own.first && !nothing.last, "share %d", int(i));
        end = own.last;
      }
      if (tiles > 1) CHECK(end - slice >= bytes && end - slice < bytes + tiles * 2 * kLine, "shares of %d", int(bytes));
    }
}

// Whole vectors and parts are stored as bf16 by one instruction where there is one: as to_bf16 rounds.
void check_bf16_stores() {
  constexpr int L = kLanes<float>;
  std::mt19937 bits(5);
  for (int i = 0; i < 100000; ++i) {
    float values[L];
    for (float& f : values) do
        f = bit_cast<float>(uint32_t(bits()));
      while (f != 0 && std::abs(f) < std::numeric_limits<float>::min());
    const int n = 1 + i % L;
    uint16_t stored[L + 1];
    std::fill(stored, stored + L + 1, uint16_t(0x1234));
    store_lanes<float>(stored, load(values), DType::bf16, n);
    for (int l = 0; l <= L; ++l) {
      const uint16_t expected = l < n ? uint16_t(to_bf16<float, uint32_t>(values[l < L ? l : 0])) : 0x1234;
      const bool both_nan = l < n && std::isnan(values[l]) && (stored[l] & 0x7fff) > 0x7f80;
      CHECK(stored[l] == expected || both_nan, "bf16 lane %d of %d: %#x", l, n, stored[l]);
    }
  }
}

int main() {
  check_functions<false>();
  check_functions<true>();
  check_fp64_functions();
  check_bf16_stores();
  check_past_caches<float>();
  if (kPairs) return report("simd, pairs");
  check_shares();
  using V = Vec<float>;
  check_storage(one_from<from_bf16<V, Lanes32>>, one_to<to_bf16<V, Lanes32>>, 0x7f80, "bf16");
  check_storage(one_from<from_f16<V, Lanes32>>, one_to<to_f16<V, Lanes32>>, 0x7c00, "fp16");
  check_storage([](uint16_t h) { return from_bf16<float>(uint32_t(h)); },
                [](float f) { return uint16_t(to_bf16<float, uint32_t>(f)); }, 0x7f80, "bf16 scalar");
  check_pack<float>();
  check_pack<double>();
  check_past_caches<double>();
  check_parts<float>();
  check_parts<double>();
  check_product<float, 1>();
  check_product<float, 2>();
  check_product<float, 3>();
  check_product<float, 4>();
  check_product<double, 4>();
  check_unpacked<float>();
  check_unpacked<double>();
  return report("simd");
}
