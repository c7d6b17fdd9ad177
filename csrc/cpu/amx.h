// Products of bf16 pairs by matrix tiles (Intel AMX-BF16), in a unit compiled with FASTRNN_AMX, in place of tile.h's
// register tile: sixteen times the multiply-adds of fp32 vectors. One instruction adds a (rows, 16 words) * b (16
// words, 16 columns) to sums (rows, 16 columns), rows <= 16. A panel of words (pack.h) is b as it lies; all sizes along
// the sum are made multiples of 16 words by zeros (panel_words() in operands.h).
#pragma once
#include <algorithm>

#include "operands.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

// Vector work beside a product of matrix tiles, which leaves a core's vector units idle: an epilogue, that of the product
// before, of which some rows are done between the tiles' multiply-adds. One after the other, either unit would wait where
// they change over (docs/benchmarks-intel.md).
class Beside {
 public:
  Beside() = default;
  // work(n) does the next n of `count` rows, `least` of them or more at a time; it has to stay where it is until all are
  // done.
  template <class Work>
  Beside(Work& work, int64_t count, int64_t least)
      : some_([](void* w, int64_t n) { (*static_cast<Work*>(w))(n); }), work_(&work), left_(count), least_(least) {}

  // The product that begins has so many places for it.
  void spread(int64_t places) {
    if (!left_ || places < 1) return;
    each_ = std::max(least_, (left_ + places - 1) / places);
    every_ = std::max<int64_t>(1, places * each_ / left_);
    wait_ = 1;
  }
  void place() {
    if (!left_ || --wait_) return;
    wait_ = every_;
    run(std::min(each_, left_));
  }
  void finish() {
    if (left_) run(left_);
  }

 private:
  void run(int64_t n) {
    left_ -= n;
    some_(work_, n);
  }
  void (*some_)(void*, int64_t) = nullptr;
  void* work_ = nullptr;
  int64_t left_ = 0, least_ = 1, each_ = 0, every_ = 0, wait_ = 0;
};

#if defined(FASTRNN_AMX)
constexpr int64_t kMatrixRows = 16;  // most rows of one tile

inline thread_local int64_t matrix_rows = 0;  // for which this thread's tiles are shaped, kept from product to product

#if defined(__AMX_BF16__)
// This thread's tiles, while a pass runs on it.
struct MatrixTiles {
  MatrixTiles() { matrix_rows = 0; }  // whatever ran before may have shaped them in its own way
  ~MatrixTiles() { asm volatile("tilerelease" ::: "memory"); }
};

// Sums are tiles 0 to 3, left operands 4 and 5, right ones 6 and 7.
inline void shape_tiles(int64_t rows) {
  if (rows == matrix_rows) return;
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {};
  } shape;
  static_assert(sizeof shape == 64, "the processor's format");
  std::fill(shape.rows, shape.rows + 6, uint8_t(rows));
  std::fill(shape.rows + 6, shape.rows + 8, uint8_t(16));
  asm volatile("ldtilecfg %0" ::"m"(shape) : "memory");
  matrix_rows = rows;
}

// Assembly and not the compilers' intrinsics, of which GCC's do not say that they read and write memory.
#define FASTRNN_TILE_LOAD(tile, from, bytes) \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #tile::"r"(from), "r"(bytes) : "memory")
#define FASTRNN_TILE_STORE(tile, to, bytes) \
  asm volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(to), "r"(bytes) : "memory")
#define FASTRNN_TILE_ZERO(tile) asm volatile("tilezero %%tmm" #tile::: "memory")
#define FASTRNN_TILE_ADD(sums, a, b) asm volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sums::: "memory")

// R tiles of rows, of which the second begins `second` rows after the first, by C vectors of columns: 2 x 2, 2 x 1 or 1
// x C. init's rows are init_stride apart (0: one row for all) and out's out_stride; init may be null: zeros, or out
// itself. beside, or null, has a place after each 16 words of the sum.
template <int R, int C>
FASTRNN_NOINLINE void matrix_block(int64_t second, int64_t K, const float* a, int64_t row_stride, const float* panel,
                                   int64_t width, const float* init, int64_t init_stride, float* out,
                                   int64_t out_stride, Beside* beside) {
  static_assert(R == 1 ? C <= 4 : C <= 2, "eight tiles");
  constexpr int L = kLanes<float>;
  const float* a2 = a + second * row_stride;
  const float* init2 = init ? init + second * init_stride : nullptr;
  float* out2 = out + second * out_stride;
  const int64_t a_bytes = row_stride * 4, b_bytes = width * 4, init_bytes = init_stride * 4, out_bytes = out_stride * 4;
#define FASTRNN_COLUMN(do_first, do_second)        \
  do {                                             \
    do_first(0, 0);                                \
    if constexpr (C > 1) do_first(1, 1);           \
    if constexpr (C > 2) do_first(2, 2);           \
    if constexpr (C > 3) do_first(3, 3);           \
    if constexpr (R > 1) do_second(2, 0);          \
    if constexpr (R > 1 && C > 1) do_second(3, 1); \
  } while (0)
#define FASTRNN_LOAD_1(tile, j) FASTRNN_TILE_LOAD(tile, init + j * L, init_bytes)
#define FASTRNN_LOAD_2(tile, j) FASTRNN_TILE_LOAD(tile, init2 + j * L, init_bytes)
#define FASTRNN_ZERO(tile, j) FASTRNN_TILE_ZERO(tile)
#define FASTRNN_STORE_1(tile, j) FASTRNN_TILE_STORE(tile, out + j * L, out_bytes)
#define FASTRNN_STORE_2(tile, j) FASTRNN_TILE_STORE(tile, out2 + j * L, out_bytes)
  if (init)
    FASTRNN_COLUMN(FASTRNN_LOAD_1, FASTRNN_LOAD_2);
  else
    FASTRNN_COLUMN(FASTRNN_ZERO, FASTRNN_ZERO);
  for (int64_t k = 0; k < K; k += L, a += L, a2 += L, panel += L * width) {
    FASTRNN_TILE_LOAD(4, a, a_bytes);
    if constexpr (R > 1) FASTRNN_TILE_LOAD(5, a2, a_bytes);
    FASTRNN_TILE_LOAD(6, panel, b_bytes);
    if constexpr (C > 1) FASTRNN_TILE_LOAD(7, panel + L, b_bytes);
    FASTRNN_TILE_ADD(0, 4, 6);
    if constexpr (C > 1) FASTRNN_TILE_ADD(1, 4, 7);
    if constexpr (R > 1) FASTRNN_TILE_ADD(2, 5, 6);
    if constexpr (R > 1 && C > 1) FASTRNN_TILE_ADD(3, 5, 7);
    if constexpr (C > 2) {
      FASTRNN_TILE_LOAD(6, panel + 2 * L, b_bytes);
      FASTRNN_TILE_ADD(2, 4, 6);
    }
    if constexpr (C > 3) {
      FASTRNN_TILE_LOAD(7, panel + 3 * L, b_bytes);
      FASTRNN_TILE_ADD(3, 4, 7);
    }
    if (beside) beside->place();
  }
  FASTRNN_COLUMN(FASTRNN_STORE_1, FASTRNN_STORE_2);
#undef FASTRNN_COLUMN
#undef FASTRNN_LOAD_1
#undef FASTRNN_LOAD_2
#undef FASTRNN_ZERO
#undef FASTRNN_STORE_1
#undef FASTRNN_STORE_2
}
#else
// The same where the compiler does not have the instructions, for tests on any processor.
struct MatrixTiles {
  ~MatrixTiles() {}
};
inline void shape_tiles(int64_t rows) { matrix_rows = rows; }
template <int R, int C>
void matrix_block(int64_t second, int64_t K, const float* a, int64_t row_stride, const float* panel, int64_t width,
                  const float* init, int64_t init_stride, float* out, int64_t out_stride, Beside* beside) {
  constexpr int L = kLanes<float>;
  for (int64_t k = 0; beside && k < K; k += L) beside->place();
  for (int64_t first = 0; first < R; ++first)
    for (int64_t r = first * second; r < first * second + matrix_rows; ++r)
      for (int j = 0; j < C; ++j) {
        Vec<float> sum = init ? load(init + r * init_stride + j * L) : Vec<float>{};
        for (int64_t k = 0; k < K; ++k)
          sum = multiply_add<float>(sum, broadcast_word(a + r * row_stride + k), load(panel + k * width + j * L));
        store(out + r * out_stride + j * L, sum);
      }
}
#endif

// Whether so many rows are cut into tiles of one size, none of which overlaps another.
inline bool tiles_evenly(int64_t rows) {
  const int64_t tiles = (rows + kMatrixRows - 1) / kMatrixRows;
  return tiles == 0 || rows % tiles == 0;
}

// out (rows, NV vectors) = init + a (rows, K words) * panel (K, NV vectors). Where tiles overlap, some rows are
// computed twice, and init must not be out.
template <int NV>
inline void matrix_product(int64_t rows, int64_t K, const float* a, int64_t row_stride, const float* panel,
                           const float* init, int64_t init_stride, float* out, int64_t out_stride,
                           Beside* beside = nullptr) {
  constexpr int L = kLanes<float>, width = NV * L;
  const int64_t tiles = (rows + kMatrixRows - 1) / kMatrixRows;
  if (!tiles) return;
  const int64_t size = (rows + tiles - 1) / tiles;
  shape_tiles(size);
  if (beside) beside->spread((tiles == 1 ? 1 : (tiles + 1) / 2 * ((NV + 1) / 2)) * (K / L));
  if (tiles == 1)
    return matrix_block<1, NV>(0, K, a, row_stride, panel, width, init, init_stride, out, out_stride, beside);
  const auto at_row = [&](int64_t tile) { return std::min(tile * size, rows - size); };
  const auto columns = [&](int j, auto count) {
    constexpr int C = decltype(count)::value;
    for (int64_t i = 0; i < tiles; i += 2) {
      const int64_t r = at_row(i);
      const float* from = init ? init + r * init_stride + j * L : nullptr;
      float* to = out + r * out_stride + j * L;
      if (i + 1 < tiles)
        matrix_block<2, C>(at_row(i + 1) - r, K, a + r * row_stride, row_stride, panel + j * L, width, from,
                           init_stride, to, out_stride, beside);
      else
        matrix_block<1, C>(0, K, a + r * row_stride, row_stride, panel + j * L, width, from, init_stride, to,
                           out_stride, beside);
    }
  };
  for (int j = 0; j + 1 < NV; j += 2) columns(j, std::integral_constant<int, 2>());
  if constexpr (NV % 2) columns(NV - 1, std::integral_constant<int, 1>());
}
#else
struct MatrixTiles {
  ~MatrixTiles() {}
};
#endif

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
