// The whole layer with the widest vectors, which few machines have, against the narrowest: the compiler splits 64-byte
// vectors into what the processor has, so tiles, packing and tails of the AVX-512 build run anywhere. The widest also
// take all panels for far ones.
// Linked with layer_f32.cpp and layer_f64.cpp, each compiled as ISA `wide` and as ISA `narrow`, and with layer_bf16.cpp
// as ISA `pairs`: its products of bf16 pairs, here in fp32, against fp32 arithmetic on the same bf16 data; and with
// layer_amx.cpp as ISA `tiles`: the same by matrix tiles, which a compiler without the instructions emulates.
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "../../csrc/cpu/team.h"
#include "../../csrc/problem.h"
#include "check.h"

namespace fastrnn {
OpenMP openmp;
#define DECLARE(isa)                                  \
  namespace isa {                                     \
  template <class T>                                  \
  void layer_forward(int, const ForwardArgs&);        \
  template <class T>                                  \
  void layer_backward(int, const BackwardArgs&);      \
  template <class T>                                  \
  int64_t reserve_size(int, int64_t rows, int64_t H); \
  }
DECLARE(wide)
DECLARE(narrow)
DECLARE(pairs)
DECLARE(tiles)
}  // namespace fastrnn

using namespace fastrnn;

struct Shape {
  int cell;
  int64_t gates, T, B, I, H, P;
  bool ragged, reverse;
};

// A value in memory: of type T, or bf16.
struct Bf16 {
  uint16_t bits;
  Bf16(double v = 0) {
    const float f = float(v);
    uint32_t u;
    std::memcpy(&u, &f, 4);
    bits = uint16_t(std::isnan(f) ? 0x7fc0 : (u + 0x7fff + (u >> 16 & 1)) >> 16);
  }
  operator double() const {
    const uint32_t u = uint32_t(bits) << 16;
    float f;
    std::memcpy(&f, &u, 4);
    return f;
  }
};

// The layer's results and gradients. A: the arithmetic type, T: what is in memory.
template <class A, class T>
std::vector<double> run(const Shape& s, void (*forward)(int, const ForwardArgs&),
                        void (*backward)(int, const BackwardArgs&), int64_t (*reserve_size)(int, int64_t, int64_t)) {
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  std::vector<int64_t> sizes;
  int64_t N = 0;
  for (int64_t t = 0; t < s.T; ++t) {
    sizes.push_back(s.ragged ? s.B - t * (s.B - 1) / s.T : s.B);
    N += sizes.back();
  }
  const int64_t G = s.gates, R = s.P ? s.P : s.H;
  const auto make = [&](int64_t count, double scale) {
    std::vector<T> v(static_cast<size_t>(count));
    for (T& x : v) x = T(scale * normal(random));
    return v;
  };
  auto w_ih = make(G * s.H * s.I, 0.3), w_hh = make(G * s.H * R, 0.5 / std::sqrt(double(R))), b_ih = make(G * s.H, 0.3),
       b_hh = make(G * s.H, 0.3), w_hr = make(s.P * s.H, 0.2), x = make(N * s.I, 1), hx = make(s.B * R, 1),
       cx = make(s.B * s.H, 1), dy = make(N * R, 1), dh_n = make(s.B * R, 1), dc_n = make(s.B * s.H, 1);
  const double nan = NAN;
  std::vector<T> y(size_t(N * R), T(nan)), h_n(size_t(s.B * R), T(nan)), c_n(size_t(s.B * s.H), T(nan));
  std::vector<A> reserve(size_t(reserve_size(s.cell, N, s.H)) + 1);
  const DType dtype = sizeof(T) == 8 ? DType::f64 : sizeof(T) == 4 ? DType::f32 : DType::bf16;
  const Layer layer{s.T, s.B, s.I, s.H, s.P, sizes.data(), s.reverse, dtype, 1};
  const Weights w{w_ih.data(), w_hh.data(), b_ih.data(), b_hh.data(), s.P ? w_hr.data() : nullptr};
  const bool lstm = s.gates == 4;
  const ForwardArgs f{layer,
                      w,
                      {x.data(), 0, s.I},
                      hx.data(),
                      lstm ? cx.data() : nullptr,
                      {y.data(), 0, R},
                      h_n.data(),
                      lstm ? c_n.data() : nullptr,
                      reserve.data()};
  forward(s.cell, f);
  std::vector<T> dx(x.size(), T(nan)), dhx(hx.size(), T(nan)), dcx(cx.size(), T(nan)), dw_ih(w_ih.size(), T(nan)),
      dw_hh(w_hh.size(), T(nan)), db_ih(b_ih.size(), T(nan)), db_hh(b_hh.size(), T(nan)), dw_hr(w_hr.size(), T(nan));
  const BackwardArgs b{layer,
                       w,
                       f.x,
                       f.hx,
                       f.cx,
                       f.y,
                       reserve.data(),
                       {dy.data(), 0, R},
                       dh_n.data(),
                       lstm ? dc_n.data() : nullptr,
                       dx.data(),
                       dhx.data(),
                       lstm ? dcx.data() : nullptr,
                       dw_ih.data(),
                       dw_hh.data(),
                       db_ih.data(),
                       db_hh.data(),
                       s.P ? dw_hr.data() : nullptr};
  backward(s.cell, b);
  std::vector<double> all;
  for (auto* v : {&y, &h_n, &dx, &dhx, &dw_ih, &dw_hh, &db_ih, &db_hh}) all.insert(all.end(), v->begin(), v->end());
  if (lstm)
    for (auto* v : {&c_n, &dcx}) all.insert(all.end(), v->begin(), v->end());
  if (s.P) all.insert(all.end(), dw_hr.begin(), dw_hr.end());
  return all;
}

void compare(const std::vector<double>& found, const std::vector<double>& true_values, double tolerance,
             const Shape& s) {
  double worst = 0, largest = 1;
  for (double v : true_values) largest = std::max(largest, std::abs(v));
  for (size_t i = 0; i < found.size(); ++i)
    worst = std::isnan(found[i]) ? INFINITY : std::max(worst, std::abs(found[i] - true_values[i]));
  CHECK(worst <= tolerance * largest, "cell %d T %d B %d I %d H %d P %d: error %g of %g", s.cell, int(s.T), int(s.B),
        int(s.I), int(s.H), int(s.P), worst, largest);
}

int main() {
  const int64_t gates[] = {1, 1, 3, 4};
  for (int cell = 0; cell < 4; ++cell)
    for (bool reverse : {false, true})
      for (int64_t P : {0, 5, 19}) {
        if (P && cell != 3) continue;
        for (Shape s : {Shape{cell, gates[cell], 3, 1, 2, 20, P, false, reverse},
                        Shape{cell, gates[cell], 7, 13, 33, 37, P, true, reverse},
                        Shape{cell, gates[cell], 20, 29, 17, 64, P, true, reverse},
                        Shape{cell, gates[cell], 5, 67, 32, 96, P, false, reverse}}) {
#define RUN(isa, layout, A, T) run<A, T>(s, isa::layer_forward<A>, isa::layer_backward<A>, layout::reserve_size<A>)
          const auto exact = RUN(narrow, narrow, double, double);
          compare(RUN(wide, wide, double, double), exact, 1e-12, s);
          compare(RUN(wide, wide, float, float), exact, 2e-5, s);
          compare(RUN(narrow, narrow, float, float), exact, 2e-5, s);
          const double kink = cell == 1 ? 0.2 : 3e-2;  // an h rounded to ReLU's other side has another gradient
          const auto in_fp32 = RUN(narrow, narrow, float, Bf16), in_pairs = RUN(pairs, wide, float, Bf16);
          compare(in_pairs, in_fp32, kink, s);
          compare(RUN(tiles, wide, float, Bf16), in_pairs, cell == 1 ? kink : 1e-2, s);  // sums of another order
        }
      }
  return report("widths");
}
