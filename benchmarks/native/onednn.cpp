// oneDNN's rnn primitives behind a C interface, for benchmarks/peers/onednn.py: one dense fp32 layer in one direction
// from an initial state of zeros and to a final one, as torch calls it. Weights go into the layout that the primitive prefers once, when the layer is made; a user
// who trains pays for that after every step of the optimiser, and this peer does not.
#include <omp.h>

#include <cstring>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <unordered_map>
#include <vector>

using namespace dnnl;
using dt = memory::data_type;
using tag = memory::format_tag;
using Args = std::unordered_map<int, memory>;

namespace {

thread_local std::string last_error;

struct Layer {
  engine eng{engine::kind::cpu, 0};
  stream s{eng};
  int threads;
  primitive forward, backward;
  Args forward_args, backward_args;
  std::vector<memory> to_zero;  // gradients of weights, which the primitive adds to
  memory y, dx, dw_ih, dw_hh, db;
  // the same gradients in the layouts of the caller, by `read`
  memory::dims w_ih_dims, w_hh_dims;
};

// Version 2 makes a primitive descriptor from an operation descriptor, version 3 from the engine.
template <class P, class... A>
typename P::primitive_desc describe(const engine& eng, const A&... a) {
#if DNNL_VERSION_MAJOR >= 3
  return typename P::primitive_desc(eng, a...);
#else
  return typename P::primitive_desc(typename P::desc(a...), eng);
#endif
}

template <class P, class Hint, class... A>
typename P::primitive_desc describe_backward(const engine& eng, const Hint& hint, const A&... a) {
#if DNNL_VERSION_MAJOR >= 3
  return typename P::primitive_desc(eng, a..., hint);
#else
  return typename P::primitive_desc(typename P::desc(a...), eng, hint);
#endif
}

struct Lstm {
  using Forward = lstm_forward;
  using Backward = lstm_backward;
  static constexpr int gates = 4, biases = 4;
};
struct Gru {
  using Forward = lbr_gru_forward;
  using Backward = lbr_gru_backward;
  static constexpr int gates = 3, biases = 4;
};
struct Rnn {
  using Forward = vanilla_rnn_forward;
  using Backward = vanilla_rnn_backward;
  static constexpr int gates = 1, biases = 1;
};

memory copy_of(Layer& l, const memory::desc& d, const float* values) {
  memory m(d, l.eng);
  std::memcpy(m.get_data_handle(), values, d.get_size());
  return m;
}

memory in_layout(Layer& l, memory m, const memory::desc& d) {
  if (m.get_desc() == d) return m;
  memory to(d, l.eng);
  reorder(m, to).execute(l.s, m, to);
  l.s.wait();
  return to;
}

// Everything but the cell's own arguments is the same for all three.
template <class Cell>
void make(Layer& l, bool train, memory::dim T, memory::dim B, memory::dim I, memory::dim H, const float* x,
          const float* w_ih, const float* w_hh, const float* b, const float* dy) {
  const auto direction = rnn_direction::unidirectional_left2right;
  l.w_ih_dims = {1, 1, I, Cell::gates, H};
  l.w_hh_dims = {1, 1, H, Cell::gates, H};
  const memory::desc x_md({T, B, I}, dt::f32, tag::tnc), y_md({T, B, H}, dt::f32, tag::tnc);
  const memory::desc h_md({1, 1, B, H}, dt::f32, tag::ldnc);  // h and c before the first step and after the last
  const memory::desc b_md({1, 1, Cell::biases, H}, dt::f32, tag::ldgo);
  const memory::desc wi_any(l.w_ih_dims, dt::f32, tag::any), wh_any(l.w_hh_dims, dt::f32, tag::any);
  const auto kind = train ? prop_kind::forward_training : prop_kind::forward_inference;
  const auto back = prop_kind::backward;
  const auto tanh = algorithm::eltwise_tanh;

  typename Cell::Forward::primitive_desc pd;
  if constexpr (std::is_same_v<Cell, Lstm>)
    pd = describe<typename Cell::Forward>(l.eng, kind, direction, x_md, h_md, h_md, wi_any, wh_any, b_md, y_md, h_md,
                                          h_md);
  else if constexpr (std::is_same_v<Cell, Gru>)
    pd = describe<typename Cell::Forward>(l.eng, kind, direction, x_md, h_md, wi_any, wh_any, b_md, y_md, h_md);
  else
    pd = describe<typename Cell::Forward>(l.eng, kind, tanh, direction, x_md, h_md, wi_any, wh_any, b_md, y_md, h_md);

  // the caller's (G, H, K) is ldgoi here
  const memory user_ih = copy_of(l, {l.w_ih_dims, dt::f32, tag::ldgoi}, w_ih);
  const memory user_hh = copy_of(l, {l.w_hh_dims, dt::f32, tag::ldgoi}, w_hh);
  const memory src = copy_of(l, x_md, x), bias = copy_of(l, b_md, b);
  const auto zeros = [&] {
    memory m(h_md, l.eng);
    std::memset(m.get_data_handle(), 0, h_md.get_size());
    return m;
  };
  const auto state = [](Args& args, const Args::value_type& h, const Args::value_type& c) {
    args.insert(h);
    if (std::is_same_v<Cell, Lstm>) args.insert(c);
  };
  const memory h0 = zeros(), c0 = zeros(), h_n = zeros(), c_n = zeros();
  l.y = memory(y_md, l.eng);
  l.forward_args = {{DNNL_ARG_SRC_LAYER, src},
                    {DNNL_ARG_WEIGHTS_LAYER, in_layout(l, user_ih, pd.weights_layer_desc())},
                    {DNNL_ARG_WEIGHTS_ITER, in_layout(l, user_hh, pd.weights_iter_desc())},
                    {DNNL_ARG_BIAS, bias},
                    {DNNL_ARG_DST_LAYER, l.y}};
  state(l.forward_args, {DNNL_ARG_SRC_ITER, h0}, {DNNL_ARG_SRC_ITER_C, c0});
  state(l.forward_args, {DNNL_ARG_DST_ITER, h_n}, {DNNL_ARG_DST_ITER_C, c_n});
  l.forward = typename Cell::Forward(pd);
  if (!train) return;

  const memory workspace(pd.workspace_desc(), l.eng);
  l.forward_args.insert({DNNL_ARG_WORKSPACE, workspace});
  typename Cell::Backward::primitive_desc bd;
  if constexpr (std::is_same_v<Cell, Lstm>)
    bd = describe_backward<typename Cell::Backward>(l.eng, pd, back, direction, x_md, h_md, h_md, wi_any, wh_any, b_md,
                                                    y_md, h_md, h_md, x_md, h_md, h_md, wi_any, wh_any, b_md, y_md,
                                                    h_md, h_md);
  else if constexpr (std::is_same_v<Cell, Gru>)
    bd = describe_backward<typename Cell::Backward>(l.eng, pd, back, direction, x_md, h_md, wi_any, wh_any, b_md, y_md,
                                                    h_md, x_md, h_md, wi_any, wh_any, b_md, y_md, h_md);
  else
    bd = describe_backward<typename Cell::Backward>(l.eng, pd, back, tanh, direction, x_md, h_md, wi_any, wh_any, b_md,
                                                    y_md, h_md, x_md, h_md, wi_any, wh_any, b_md, y_md, h_md);
  l.dx = memory(x_md, l.eng);
  l.dw_ih = memory(bd.diff_weights_layer_desc(), l.eng);
  l.dw_hh = memory(bd.diff_weights_iter_desc(), l.eng);
  l.db = memory(b_md, l.eng);
  l.to_zero = {l.dw_ih, l.dw_hh, l.db};
  l.backward_args = {{DNNL_ARG_SRC_LAYER, src},
                     {DNNL_ARG_WEIGHTS_LAYER, in_layout(l, user_ih, bd.weights_layer_desc())},
                     {DNNL_ARG_WEIGHTS_ITER, in_layout(l, user_hh, bd.weights_iter_desc())},
                     {DNNL_ARG_BIAS, bias},
                     {DNNL_ARG_DST_LAYER, l.y},
                     {DNNL_ARG_WORKSPACE, workspace},
                     {DNNL_ARG_DIFF_SRC_LAYER, l.dx},
                     {DNNL_ARG_DIFF_WEIGHTS_LAYER, l.dw_ih},
                     {DNNL_ARG_DIFF_WEIGHTS_ITER, l.dw_hh},
                     {DNNL_ARG_DIFF_BIAS, l.db},
                     {DNNL_ARG_DIFF_DST_LAYER, copy_of(l, y_md, dy)}};
  state(l.backward_args, {DNNL_ARG_SRC_ITER, h0}, {DNNL_ARG_SRC_ITER_C, c0});
  state(l.backward_args, {DNNL_ARG_DST_ITER, h_n}, {DNNL_ARG_DST_ITER_C, c_n});
  state(l.backward_args, {DNNL_ARG_DIFF_SRC_ITER, zeros()}, {DNNL_ARG_DIFF_SRC_ITER_C, zeros()});
  state(l.backward_args, {DNNL_ARG_DIFF_DST_ITER, zeros()}, {DNNL_ARG_DIFF_DST_ITER_C, zeros()});
  l.backward = typename Cell::Backward(bd);
}

void read_out(const memory& m, float* to) {
  if (to) std::memcpy(to, m.get_data_handle(), m.get_desc().get_size());
}

void read_weights(Layer& l, const memory& m, const memory::dims& dims, float* to) {
  if (to) read_out(in_layout(l, m, {dims, dt::f32, tag::ldgoi}), to);
}

}  // namespace

extern "C" {

const char* bench_version() {
  static const std::string text = std::to_string(version()->major) + "." + std::to_string(version()->minor) + "." +
                                  std::to_string(version()->patch);
  return text.c_str();
}

const char* bench_error() { return last_error.c_str(); }

// cell 0 lstm, 1 gru, 2 rnn; x (T,B,I), w_ih (G,H,I), w_hh (G,H,H), b (biases,H), dy (T,B,H), in oneDNN's gate order.
// Null where oneDNN refuses: bench_error tells why.
void* bench_make(int cell, int train, int64_t T, int64_t B, int64_t I, int64_t H, int threads, const float* x,
                 const float* w_ih, const float* w_hh, const float* b, const float* dy) {
  try {
    omp_set_num_threads(threads);
    auto l = std::make_unique<Layer>();
    l->threads = threads;
    (cell == 0 ? make<Lstm> : cell == 1 ? make<Gru> : make<Rnn>)(*l, train, T, B, I, H, x, w_ih, w_hh, b, dy);
    return l.release();
  } catch (const std::exception& e) {
    last_error = e.what();
    return nullptr;
  }
}

// One call: forward, and, for a layer made to train, backward.
int bench_run(void* handle) {
  try {
    auto& l = *static_cast<Layer*>(handle);
    omp_set_num_threads(l.threads);
    l.forward.execute(l.s, l.forward_args);
    if (l.backward) {
      for (auto& m : l.to_zero) std::memset(m.get_data_handle(), 0, m.get_desc().get_size());
      l.backward.execute(l.s, l.backward_args);
    }
    l.s.wait();
    return 0;
  } catch (const std::exception& e) {
    last_error = e.what();
    return 1;
  }
}

// Results of the last call; null pointers are left out. dw_ih (G,H,I), dw_hh (G,H,H), in oneDNN's gate order.
void bench_read(void* handle, float* y, float* dx, float* dw_ih, float* dw_hh) {
  auto& l = *static_cast<Layer*>(handle);
  read_out(l.y, y);
  if (dx) read_out(l.dx, dx);
  read_weights(l, l.dw_ih, l.w_ih_dims, dw_ih);
  read_weights(l, l.dw_hh, l.w_hh_dims, dw_hh);
}

void bench_free(void* handle) { delete static_cast<Layer*>(handle); }
}
