// Sinkhorn projection of one n x n matrix of logits per token (mHC eq. 9), and its exact gradient.
//
//   logits, res [tokens, n, n]; row = destination stream, column = source stream
//   paper:        M = exp(L - max L);  iters times: columns, then rows
//   deepseek-v4:  M = softmax over rows of L, + eps; columns; then iters - 1 times: rows, columns; res = M transposed
//
// Backward rewinds each normalisation by multiplication, so only its sums are kept: 2 * iters * n floats per token.
// A sum below kSmallestSum (2^-126: every entry of the line underflowed) is replaced by it: the line stays near zero,
// finite.
#pragma once
#include "core/checks.h"
#include "core/host_device.h"

namespace birkhoff {

enum class Convention : int32_t { kPaper = 0, kDeepSeekV4 = 1 };

inline constexpr int kMaxSinkhornIters = 64;
inline constexpr float kSmallestSum = 1.17549435e-38f;
// Where an entry underflowed to 0 its gradient is 0, but on the way there it is divided by one tiny sum after the
// other. Held below 2^123 it stays finite (eight of them can be added), and infinity times the entry never becomes NaN.
inline constexpr float kLargestGradient = 1.0633824e37f;

struct SinkhornForwardArgs {
  static constexpr const char* kName = "sinkhorn";
  View logits, res;
  int64_t tokens, n, iters;
  double eps;
  int64_t convention;

  template <class F>
  void fields(F&& field) {
    field("logits", logits), field("res", res), field("tokens", tokens), field("n", n), field("iters", iters);
    field("eps", eps), field("convention", convention);
  }
  void check() const {
    require_streams(kName, n);
    require_range(kName, "iters", iters, 1, kMaxSinkhornIters);
    require_dtype(kName, "logits", logits, DType::kFloat32), require_dtype(kName, "res", res, DType::kFloat32);
    require_size(kName, "logits", logits, {tokens, n, n}), require_size(kName, "res", res, {tokens, n, n});
  }
};

struct SinkhornBackwardArgs {
  static constexpr const char* kName = "sinkhorn backward";
  View logits, grad_res, grad_logits;
  int64_t tokens, n, iters;
  double eps;
  int64_t convention;

  template <class F>
  void fields(F&& field) {
    field("logits", logits), field("gradRes", grad_res), field("gradLogits", grad_logits), field("tokens", tokens);
    field("n", n), field("iters", iters), field("eps", eps), field("convention", convention);
  }
  void check() const {
    require_streams(kName, n);
    require_range(kName, "iters", iters, 1, kMaxSinkhornIters);
    for (const View* view : {&logits, &grad_res, &grad_logits}) {
      require_dtype(kName, "tensor", *view, DType::kFloat32);
      require_size(kName, "tensor", *view, {tokens, n, n});
    }
  }
};

}  // namespace birkhoff

// vreciprocal takes divisors in [2^-126, 2^126), or NaN: sums of at most eight entries up to 1 + eps, and eps at most
// 1, held at kSmallestSum or above; the sums of the softmax start are at least 1.
//
// Per-token maths, in the namespace of the backend that includes it (which brings vbroadcast, vmax, vexp, vfma,
// vselect, vreciprocal). V is float, or a vector with one token per lane. Matrices are row-major in registers.
#ifdef BIRKHOFF_MATH
namespace BIRKHOFF_MATH {

// Keeps no divisors: for a forward without backward.
struct NoSums {
  MHC_HD NoSums operator+(int) const { return {}; }
  template <class V>
  MHC_HD void keep(int, V) const {}
};

// 2 * iters * N divisors, `stride` values apart (threads of a block interleave theirs).
template <class V>
struct Sums {
  V* data;
  int stride = 1;
  MHC_HD Sums operator+(int count) const { return {data + count * stride, stride}; }
  MHC_HD void keep(int index, V value) const { data[index * stride] = value; }
  MHC_HD V operator[](int index) const { return data[index * stride]; }
};

// One normalisation: every line (row or column) divided by its sum, which is kept.
template <int N, bool Rows, class V, class Kept>
MHC_HD void sinkhorn_normalise(V (&m)[N * N], V eps, Kept divisors) {
  MHC_UNROLL(4)
  for (int line = 0; line < N; ++line) {
    constexpr int stride = Rows ? 1 : N;
    const int start = Rows ? line * N : line;
    V sum = m[start];
    MHC_UNROLL(4)
    for (int k = 1; k < N; ++k) sum = sum + m[start + k * stride];
    const V divisor = vmax(sum + eps, vbroadcast<V>(kSmallestSum));
    divisors.keep(line, divisor);
    const V inverse = vreciprocal(divisor);
    MHC_UNROLL(4)
    for (int k = 0; k < N; ++k) m[start + k * stride] = m[start + k * stride] * inverse;
  }
}

// Undoes one normalisation: m becomes what it was, g the gradient with respect to that.
// Y = X/(c+eps): dX = (dY - sum(dY*Y))/(c+eps), X = Y(c+eps).
template <int N, bool Rows, class V>
MHC_HD void sinkhorn_rewind(V (&m)[N * N], V (&g)[N * N], Sums<V> divisors) {
  MHC_UNROLL(4)
  for (int line = 0; line < N; ++line) {
    constexpr int stride = Rows ? 1 : N;
    const int start = Rows ? line * N : line;
    V dot = g[start] * m[start];
    MHC_UNROLL(4)
    for (int k = 1; k < N; ++k) dot = vfma(g[start + k * stride], m[start + k * stride], dot);
    const V divisor = divisors[line];
    // A replaced sum is a constant: no gradient flows through it.
    dot = vselect(divisor > kSmallestSum, dot, V{});
    const V inverse = vreciprocal(divisor);
    MHC_UNROLL(4)
    for (int k = 0; k < N; ++k) {
      // The limits come first: then NaN passes through.
      const V next = (g[start + k * stride] - dot) * inverse;
      g[start + k * stride] = vmin(V{} + kLargestGradient, vmax(V{} - kLargestGradient, next));
      m[start + k * stride] = m[start + k * stride] * divisor;
    }
  }
}

// m: logits in, start matrix out. The paper's start is exp(L - max) over the whole matrix; a row maximum would change
// the result, since columns come first. One exp for both starts: it is most of the code.
template <int N, class V>
MHC_HD void sinkhorn_start(V (&m)[N * N], bool softmax_start, V eps) {
  V top[N];
  MHC_UNROLL(4)
  for (int i = 0; i < N; ++i) {
    top[i] = m[i * N];
    MHC_UNROLL(4)
    for (int j = 1; j < N; ++j) top[i] = vmax(top[i], m[i * N + j]);
  }
  if (!softmax_start) {
    MHC_UNROLL(4)
    for (int i = 1; i < N; ++i) top[0] = vmax(top[0], top[i]);
    MHC_UNROLL(4)
    for (int i = 1; i < N; ++i) top[i] = top[0];
  }
  MHC_UNROLL(16)
  for (int k = 0; k < N * N; ++k) m[k] = vexp(m[k] - top[k / N]);
  if (!softmax_start) return;
  MHC_UNROLL(4)
  for (int i = 0; i < N; ++i) {
    V sum = V{};
    MHC_UNROLL(4)
    for (int j = 0; j < N; ++j) sum = sum + m[i * N + j];
    const V inverse = vreciprocal(sum);
    MHC_UNROLL(4)
    for (int j = 0; j < N; ++j) m[i * N + j] = m[i * N + j] * inverse + eps;
  }
}

template <int N, class V>
MHC_HD void transpose_square(V (&m)[N * N]) {
  MHC_UNROLL(4)
  for (int i = 0; i < N; ++i) {
    MHC_UNROLL(4)
    for (int j = i + 1; j < N; ++j) {
      const V t = m[i * N + j];
      m[i * N + j] = m[j * N + i];
      m[j * N + i] = t;
    }
  }
}

// Logits to res, in place. sums: NoSums, or Sums for sinkhorn_backward.
template <int N, class V, class Kept>
MHC_HD void sinkhorn_forward(V (&m)[N * N], int iters, V eps, Convention convention, Kept sums) {
  const bool v4 = convention == Convention::kDeepSeekV4;
  const int rows = v4 ? iters - 1 : iters;  // deepseek-v4 ends with columns
  sinkhorn_start<N>(m, v4, eps);
  for (int it = 0; it < iters; ++it) {
    const Kept at = sums + 2 * it * N;
    sinkhorn_normalise<N, false>(m, eps, at);
    if (it < rows) sinkhorn_normalise<N, true>(m, eps, at + N);
  }
  if (v4) transpose_square<N>(m);
}

// g: gradient of res in, of the logits out. m: res, as sinkhorn_forward left it. logits are needed by the softmax start
// only.
template <int N, class V>
MHC_HD void sinkhorn_backward(V (&m)[N * N], V (&g)[N * N], int iters, V eps, Convention convention, Sums<V> sums) {
  const bool v4 = convention == Convention::kDeepSeekV4;
  const int rows = v4 ? iters - 1 : iters;
  if (v4) transpose_square<N>(m), transpose_square<N>(g);
  for (int it = iters - 1; it >= 0; --it) {
    const Sums<V> at = sums + 2 * it * N;
    if (it < rows) sinkhorn_rewind<N, true>(m, g, at + N);
    sinkhorn_rewind<N, false>(m, g, at);
  }
  // Here m is the start matrix again.
  if (!v4) {
    MHC_UNROLL(16)
    for (int k = 0; k < N * N; ++k) g[k] = g[k] * m[k];
    return;
  }
  MHC_UNROLL(4)
  for (int i = 0; i < N; ++i) {
    V dot = V{};
    MHC_UNROLL(4)
    for (int j = 0; j < N; ++j) dot = vfma(g[i * N + j], m[i * N + j] - eps, dot);
    MHC_UNROLL(4)
    for (int j = 0; j < N; ++j) g[i * N + j] = (m[i * N + j] - eps) * (g[i * N + j] - dot);
  }
}

}  // namespace BIRKHOFF_MATH
#endif
