// Sinkhorn projection of one n x n matrix of logits per token (mHC eq. 9), and its exact gradient.
//
//   logits, res [tokens, n, n]; row = destination stream, column = source stream
//   paper:        M_ij = exp(L_ij - max_i L_ij);  iters times: columns, then rows, each by its sum + eps
//   deepseek-v4:  M = softmax over rows of L, + eps; columns; then iters - 1 times: rows, columns; res = M transposed
//
// The second is the first on the transposed logits, with eps put into another place of its start. Where the logits of a
// token span more than float32's exponents hold, ops/sinkhorn_lost.h takes over.
//
// Backward rewinds each normalisation by multiplication, so only its divisors are kept, 2 * iters * n floats per token.
// It carries h = (gradient of an entry) * entry, the gradient of the entry's logarithm, which stays in range where the
// gradient of a vanishing entry would not: of Y = X / sum(X), h_X = h_Y - Y sum(h_Y).
//
// A logit of -infinity is an entry of exactly 0, without gradient. From NaN, +infinity or a line of nothing but
// -infinity the token's whole result is NaN (with iters = 1, at least that line).
#pragma once
#include "core/checks.h"
#include "core/host_device.h"

namespace birkhoff {

enum class Convention : int32_t { kPaper = 0, kDeepSeekV4 = 1 };

inline constexpr int kMaxSinkhornIters = 64;
inline constexpr float kSmallestNormal = 1.17549435e-38f;
// Tokens with a logit this far below its column's largest, or an entry this small in the end, are
// ops/sinkhorn_lost.h's.
inline constexpr float kSuspectLog = -69.0f, kSuspect = 1e-30f;

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

// vreciprocal takes divisors in [2^-126, 2^126), or NaN; what it makes of others is a suspect token's, and put right.
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
  template <class Mask, class V>
  MHC_HD void replace(int, Mask, V) const {}
};

// 2 * iters * N divisors, `stride` values apart (threads of a block interleave theirs).
template <class V>
struct Sums {
  V* data;
  int stride = 1;
  MHC_HD Sums operator+(int count) const { return {data + count * stride, stride}; }
  MHC_HD void keep(int index, V value) const { data[index * stride] = value; }
  template <class Mask>
  MHC_HD void replace(int index, Mask where, V value) const {
    keep(index, vselect(where, value, (*this)[index]));
  }
  MHC_HD V operator[](int index) const { return data[index * stride]; }
};

// a - b rounded, and what rounding took: together exact. (Infinite a: NaN.)
template <class V>
MHC_HD V difference(V a, V b, V& rest) {
  const V d = a - b;
  const V back = d - a;
  rest = (a - (d - back)) - (b + back);
  return d;
}

}  // namespace BIRKHOFF_MATH
#include "ops/sinkhorn_lost.h"
namespace BIRKHOFF_MATH {

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
    const V divisor = sum + eps;
    divisors.keep(line, divisor);
    const V inverse = vreciprocal(divisor);
    MHC_UNROLL(4)
    for (int k = 0; k < N; ++k) m[start + k * stride] = m[start + k * stride] * inverse;
  }
}

// Undoes one normalisation: m becomes what it was, h the gradient with respect to the logarithm of that.
template <int N, bool Rows, class V>
MHC_HD void sinkhorn_rewind(V (&m)[N * N], V (&h)[N * N], Sums<V> divisors) {
  MHC_UNROLL(4)
  for (int line = 0; line < N; ++line) {
    constexpr int stride = Rows ? 1 : N;
    const int start = Rows ? line * N : line;
    V sum = h[start];
    MHC_UNROLL(4)
    for (int k = 1; k < N; ++k) sum = sum + h[start + k * stride];
    const V divisor = divisors[line];
    MHC_UNROLL(4)
    for (int k = 0; k < N; ++k) {
      const int at = start + k * stride;
      h[at] = vfma(V{} - m[at], sum, h[at]);
      m[at] = m[at] * divisor;
    }
  }
}

// m: logits in, after the first columns out; softmax_start (deepseek-v4): with eps_start on top, and no eps in the
// sums. Returns how far a logit lies below its column's largest, at most.
template <int N, class V, class Kept>
MHC_HD V sinkhorn_start(V (&m)[N * N], V eps, V eps_start, bool softmax_start, Kept divisors) {
  V least = V{};
  MHC_UNROLL(4)
  for (int j = 0; j < N; ++j) {
    V top = m[j];
    MHC_UNROLL(4)
    for (int i = 1; i < N; ++i) top = vmax(top, m[i * N + j]);
    V sum = V{};
    MHC_UNROLL(4)
    for (int i = 0; i < N; ++i) {
      V rest;
      const V d = difference(m[i * N + j], top, rest);
      least = vmin(least, d);
      m[i * N + j] = vexp_negative(d, rest);
      sum = sum + m[i * N + j];
    }
    const V divisor = softmax_start ? sum : sum + eps;
    divisors.keep(j, divisor);
    const V inverse = vreciprocal(divisor);
    MHC_UNROLL(4)
    for (int i = 0; i < N; ++i) m[i * N + j] = vfma(m[i * N + j], inverse, eps_start);
  }
  return least;
}

// Undoes that: m after the first columns, h the gradient of its logarithm in, of the logits out.
template <int N, class V>
MHC_HD void sinkhorn_rewind_start(V (&m)[N * N], V (&h)[N * N], V eps_start, bool softmax_start) {
  if (softmax_start) {
    // m is the softmax plus eps: what is left of it without.
    MHC_UNROLL(16)
    for (int k = 0; k < N * N; ++k) {
      h[k] = h[k] * (1.0f - eps_start * vreciprocal(vmax(m[k], vbroadcast<V>(kSmallestNormal))));
      m[k] = m[k] - eps_start;
    }
  }
  MHC_UNROLL(4)
  for (int j = 0; j < N; ++j) {
    V sum = h[j];
    MHC_UNROLL(4)
    for (int i = 1; i < N; ++i) sum = sum + h[i * N + j];
    MHC_UNROLL(4)
    for (int i = 0; i < N; ++i) h[i * N + j] = vfma(V{} - m[i * N + j], sum, h[i * N + j]);
  }
}

template <int N, class V>
MHC_HD V smallest(const V (&m)[N * N]) {
  V least = m[0];
  MHC_UNROLL(16)
  for (int k = 1; k < N * N; ++k) least = vmin(least, m[k]);
  return least;
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

// Logits to res, in place. logits(k): the same again, for suspect tokens alone. sums: NoSums, or Sums for
// sinkhorn_backward. deepseek-v4's res is its matrix transposed, so that of the transposed logits as it is.
template <int N, class V, class Kept, class Logits>
MHC_HD void sinkhorn_forward(V (&m)[N * N], const Logits& logits, int iters, V eps, Convention convention, Kept sums) {
  const bool v4 = convention == Convention::kDeepSeekV4;
  const V eps_start = v4 ? eps : V{};
  if (v4) transpose_square<N>(m);
  const V least = sinkhorn_start<N>(m, eps, eps_start, v4, sums);
  sinkhorn_normalise<N, true>(m, eps, sums + N);
  for (int it = 1; it < iters; ++it) {
    const Kept at = sums + 2 * it * N;
    sinkhorn_normalise<N, false>(m, eps, at);
    sinkhorn_normalise<N, true>(m, eps, at + N);
  }
  if constexpr (N == 1) return;
  // An eps_start keeps all entries in sight.
  const auto suspect = vselect(eps_start > V{}, V{}, least) < vbroadcast<V>(kSuspectLog);
  if (!vany(suspect)) return;
  V lost[N * N];
  MHC_ROLLED
  for (int k = 0; k < N * N; ++k) lost[k] = logits(v4 ? k % N * N + k / N : k);
  sinkhorn_lost<N, V>(lost, iters, eps, sums, suspect);
  MHC_UNROLL(16)
  for (int k = 0; k < N * N; ++k) m[k] = vselect(suspect, lost[k], m[k]);
}

// g: gradient of res in, of the logits out. m: res, as sinkhorn_forward left it; logits and sums as it had them.
template <int N, class V, class Logits>
MHC_HD void sinkhorn_backward(V (&m)[N * N], V (&g)[N * N], const Logits& logits, int iters, V eps,
                              Convention convention, Sums<V> sums) {
  const bool v4 = convention == Convention::kDeepSeekV4;
  const V eps_start = v4 ? eps : V{};
  MHC_UNROLL(16)
  for (int k = 0; k < N * N; ++k) g[k] = g[k] * m[k];
  const auto suspect = vmax(smallest<N>(m), eps_start) < vbroadcast<V>(kSuspect);
  const bool any = N > 1 && vany(suspect);
  V lost[2 * N * N];
  if (any) {
    MHC_UNROLL(16)
    for (int k = 0; k < N * N; ++k) lost[k] = m[k], lost[N * N + k] = g[k];
  }
  for (int it = iters - 1; it >= 1; --it) {
    const Sums<V> at = sums + 2 * it * N;
    sinkhorn_rewind<N, true>(m, g, at + N);
    sinkhorn_rewind<N, false>(m, g, at);
  }
  sinkhorn_rewind<N, true>(m, g, sums + N);
  sinkhorn_rewind_start<N>(m, g, eps_start, v4);
  if constexpr (N > 1)
    if (any) {
      V again[N * N];
      MHC_ROLLED
      for (int k = 0; k < N * N; ++k) again[k] = logits(v4 ? k % N * N + k / N : k);
      sinkhorn_lost_backward<N, V>(lost, lost + N * N, again, iters, sums);
      MHC_UNROLL(16)
      for (int k = 0; k < N * N; ++k) g[k] = vselect(suspect, lost[N * N + k], g[k]);
    }
  if (v4) transpose_square<N>(g);
}

}  // namespace BIRKHOFF_MATH
#endif
