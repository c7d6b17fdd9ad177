// Each cell's backward against finite differences of its forward, on one unit in double: no SIMD, no driver.
#include <cmath>
#include <random>
#include <type_traits>

#include "../../csrc/cells/registry.h"
#include "check.h"

struct ScalarMath {
  using T = double;
  using V = double;
  static V sigmoid(V x) { return 1 / (1 + std::exp(-x)); }
  static V tanh(V x) { return std::tanh(x); }
  static V relu(V x) { return x < 0 ? 0 : x; }
  static V relu_grad(V h, V dh) { return h <= 0 ? 0 : dh; }
};

template <class Cell>
void check_cell(const char* name) {
  constexpr int G = Cell::kGates;
  std::mt19937 random(7);
  std::normal_distribution<double> normal;
  for (int trial = 0; trial < 200; ++trial) {
    double in[2 * G + 2];  // gx, gh, h_prev, c_prev
    for (double& v : in) v = normal(random);
    const double dh = normal(random), dc = Cell::kHasCellState ? normal(random) : 0;
    double saved[Cell::kSaved + 1];
    const auto loss = [&](const double* v) {
      double h = 0, c = 0, unused[Cell::kSaved + 1];
      Cell::template forward<ScalarMath>(v, v + G, v[2 * G], v[2 * G + 1], h, c, unused);
      return dh * h + dc * c;
    };
    double h = 0, c = 0;
    Cell::template forward<ScalarMath>(in, in + G, in[2 * G], in[2 * G + 1], h, c, saved);
    if constexpr (Cell::kHasCellState)
      CHECK(std::abs(Cell::template hidden<ScalarMath>(saved, c) - h) < 1e-15, "%s hidden", name);

    double grad[Cell::kGradColumns], dh_prev = 0, dc_prev = 0;
    Cell::template backward<ScalarMath>(saved, h, in[2 * G], c, in[2 * G + 1], dh, dc, grad, dh_prev, dc_prev);
    double found[2 * G + 2];
    for (int j = 0; j < G; ++j) {
      found[Cell::gate_of_x(j)] = grad[Cell::kGradX + j];
      found[G + Cell::gate_of_h(j)] = grad[Cell::kGradH + j];
    }
    found[2 * G] = dh_prev;
    found[2 * G + 1] = dc_prev;
    for (int i = 0; i < 2 * G + 2; ++i) {
      double moved[2 * G + 2];
      std::copy(in, in + 2 * G + 2, moved);
      const double step = 1e-5;
      moved[i] = in[i] + step;
      const double up = loss(moved);
      moved[i] = in[i] - step;
      const double numeric = (up - loss(moved)) / (2 * step);
      const bool at_kink = std::is_same_v<Cell, fastrnn::Elman<fastrnn::ReluActivation>> && std::abs(h) < 1e-4;
      CHECK(at_kink || std::abs(found[i] - numeric) < 1e-8, "%s input %d: %.12g, numeric %.12g", name, i, found[i],
            numeric);
    }
  }
}

using namespace fastrnn;  // the registry's type names

int main() {
#define CHECK_CELL(name, type) check_cell<type>(#name);
  FASTRNN_CELLS(CHECK_CELL)
  return report("cells");
}
