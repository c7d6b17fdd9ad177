// How a cell's units are cut into blocks, and where the values of a block stand in panels and in the reserve.
#pragma once
#include "pack.h"

namespace fastrnn {
inline namespace FASTRNN_ISA {

template <class Cell, class T>
struct Blocks {
  static constexpr int L = kLanes<T>, G = Cell::kGates;
  static constexpr int UV = G == 1 ? 2 : 1;  // vectors a unit block: enough accumulators for a one-gate cell too
  static constexpr int NV = G * UV;          // vectors of all gates of a block
  static constexpr int64_t U = UV * L, W = NV * L;
  static int64_t count(int64_t H) { return (H + U - 1) / U; }

  // One block: its units, the columns from one gate's to the next one's, and the vectors of a row of all gates. The
  // last block's gates stand close together, so that two units of four gates fill half a vector and not four.
  struct Block {
    int64_t index, units, pitch;
    int vectors;
    int64_t width() const { return vectors * L; }
    int64_t first() const { return index * U; }
  };
  static Block at(int64_t index, int64_t H, bool tight = true) {
    const int64_t units = H - index * U < U ? H - index * U : U;
    if (!tight) return {index, units, U, NV};
    return {index, units, units, int((G * units + L - 1) / L)};
  }
  // The gate and unit of column j of a tight block; unit -1: padding.
  struct Column {
    int64_t gate, unit;
  };
  static Column column(const Block& b, int64_t j) {
    return j < G * b.pitch && j % b.pitch < b.units ? Column{j / b.pitch, b.first() + j % b.pitch} : Column{0, -1};
  }

  // reserve: saved [block][row][kSaved][U], then c [block][row][U]; where the batch was split by rows, a part's rows of
  // all steps stand together (sequence.h), because what one core writes another would else fetch beforehand. Last the
  // number of these parts, as ones and zeros: they survive a hook that keeps saved tensors with fewer bits. Nothing at
  // all of a cell that leaves nothing.
  static constexpr int kLeft = Cell::kSaved + (Cell::kHasCellState ? 1 : 0), kPartBits = 16;
  static int64_t reserve_size(int64_t rows, int64_t H) { return kLeft ? count(H) * rows * U * kLeft + kPartBits : 0; }
  static void set_saved_parts(T* reserve, int64_t rows, int64_t H, int parts) {
    for (int i = 0; kLeft && i < kPartBits; ++i) reserve[reserve_size(rows, H) - kPartBits + i] = T(parts >> i & 1);
  }
  // most: more cannot be, whatever stands there, because the plan would not have it
  static int saved_parts(const T* reserve, int64_t rows, int64_t H, int64_t most) {
    int parts = 0;
    for (int i = 0; kLeft && i < kPartBits; ++i)
      parts |= int(reserve[reserve_size(rows, H) - kPartBits + i] > T(0.5)) << i;
    return parts >= 1 && parts <= most ? parts : 1;
  }
  template <class P>
  static P saved_at(P reserve, int64_t rows, int64_t block, int64_t row) {
    return reserve + (block * rows + row) * Cell::kSaved * U;
  }
  template <class P>
  static P c_at(P reserve, int64_t rows, int64_t H, int64_t block, int64_t row) {
    return reserve + count(H) * rows * U * Cell::kSaved + (block * rows + row) * U;
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
