// Sinkhorn projection of one n x n matrix of logits per token (mHC eq. 9), and its exact gradient.
//
//   logits, res [tokens, n, n]; row = destination stream, column = source stream
//   paper:        M_ij = exp(L_ij - max_i L_ij);  iters times: columns, then rows, each by its sum + eps
//   deepseek-v4:  M = softmax over rows of L, + eps; columns; then iters - 1 times: rows, columns; res = M transposed
//
// The second is the first on the transposed logits, with eps put into another place of its start. The first pass takes
// its exponentials relative to the largest logit of each line, so that none of them is lost whatever the logits'
// spread; after it every line sums to 1/n^2 at least. Backward rewinds each normalisation by multiplication, so only
// its divisors are kept: 2 * iters * n floats per token.
//
// A logit of -infinity is an entry of exactly 0, without gradient. From NaN, +infinity or a line of nothing but
// -infinity the token's whole result is NaN (with iters = 1, at least that line).
#pragma once
#include "core/checks.h"
#include "core/host_device.h"

namespace birkhoff {

enum class Convention : int32_t { kPaper = 0, kDeepSeekV4 = 1 };

inline constexpr int kMaxSinkhornIters = 64;
inline constexpr float kSmallest = 1.17549435e-38f;
// Of a row that lies further below the others than exp(-80), eps and what the columns left are taken as of one at that.
inline constexpr float kLargestLogScale = 80.0f;
// Entries below exp(kLostLog) when a stretch of iterations began are computed again from their logits when it ends.
inline constexpr float kLostLog = -83.0f;
// Where no entry is below this after the first pass, none is looked for.
inline constexpr float kSuspect = 1e-30f;
// How long a stretch may be, and how many iterations need none. Where all rows but one meet in one column, an iteration
// multiplies what else they have by up to (n - 1)^2: what float32 does not hold, below 1.2e-38, stays below 2e-6 for
// kPlain iterations.
template <int N>
inline constexpr int kStretch = N == 8   ? 16
                                : N == 4 ? 24
                                         : kMaxSinkhornIters;
template <int N>
inline constexpr int kPlain = N == 8 ? 20 : kStretch<N>;

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

// vreciprocal takes divisors in [2^-126, 2^126), or NaN: what it is given lies between 1/n^2 and n, plus eps, which is
// at most 1, times exp(kLargestLogScale) at most in the first pass.
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

// Multiplies nothing up: for stretches after which nothing is computed again.
struct NoProducts {
  template <class V>
  MHC_HD void times(int, V) const {}
};
template <int N, class V>
struct Products {
  V of[N];
  MHC_HD void times(int line, V divisor) { of[line] = of[line] * divisor; }
};

// One normalisation: every line (row or column) divided by its sum, which is kept.
template <int N, bool Rows, class V, class Kept, class Product>
MHC_HD void sinkhorn_normalise(V (&m)[N * N], V eps, Kept divisors, Product& product) {
  MHC_UNROLL(4)
  for (int line = 0; line < N; ++line) {
    constexpr int stride = Rows ? 1 : N;
    const int start = Rows ? line * N : line;
    V sum = m[start];
    MHC_UNROLL(4)
    for (int k = 1; k < N; ++k) sum = sum + m[start + k * stride];
    const V divisor = sum + eps;
    divisors.keep(line, divisor);
    product.times(line, divisor);
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

// a - b rounded, and what rounding took: together exact. (Infinite a: NaN.)
template <class V>
MHC_HD V difference(V a, V b, V& rest) {
  const V d = a - b;
  const V back = d - a;
  rest = (a - (d - back)) - (b + back);
  return d;
}
// exp(d + rest) for a rest below 1e-3.
template <class V>
MHC_HD V exp_exact(V d, V rest) {
  const V e = vexp(d);
  return vfma(e, vselect(rest == rest, rest, V{}), e);
}

// m: logits in, after the first columns and rows out. eps_start (deepseek-v4) is added to the columns' quotients, eps
// (paper) to their sums. divisors: of the columns as they are, of the rows relative to what the columns left.
template <int N, class V, class Kept, class Product>
MHC_HD void sinkhorn_first(V (&m)[N * N], V eps, V eps_start, bool softmax_start, Kept divisors, Product& rows,
                           Product& columns) {
  V top[N], inverse[N];
  MHC_UNROLL(4)
  for (int j = 0; j < N; ++j) {
    top[j] = m[j];
    MHC_UNROLL(4)
    for (int i = 1; i < N; ++i) top[j] = vmax(top[j], m[i * N + j]);
    V sum = V{};
    MHC_UNROLL(4)
    for (int i = 0; i < N; ++i) {
      V rest;
      const V d = difference(m[i * N + j], top[j], rest);
      sum = sum + exp_exact(d, rest);
      if constexpr (N == 8) MHC_IN_ORDER(sum);
    }
    const V divisor = softmax_start ? sum : sum + eps;
    columns.times(j, divisor);
    divisors.keep(j, divisor);
    inverse[j] = vreciprocal(divisor);
    if constexpr (N == 8) {
      // One rounding each (half of what a logit's own would be worth): a GPU has no registers for the shifts too.
      MHC_UNROLL(4)
      for (int i = 0; i < N; ++i) m[i * N + j] = m[i * N + j] - top[j];
      top[j] = V{};
    }
  }
  MHC_UNROLL(4)
  for (int i = 0; i < N; ++i) {
    // Relative to the columns' largest, then to the largest of these in the row: again at least one is 1.
    V most = m[i * N] - top[0];
    MHC_UNROLL(4)
    for (int j = 1; j < N; ++j) most = vmax(most, m[i * N + j] - top[j]);
    const V scale = vexp(vmin(V{} - most, vbroadcast<V>(kLargestLogScale)));
    V sum = V{};
    MHC_UNROLL(4)
    for (int j = 0; j < N; ++j) {
      V rest, more;
      const V d = difference(m[i * N + j], top[j], rest);
      const V below = difference(d, most, more);
      m[i * N + j] = vfma(eps_start, scale, exp_exact(below, rest + more) * inverse[j]);
      sum = sum + m[i * N + j];
      if constexpr (N == 8) MHC_IN_ORDER(sum);
    }
    const V divisor = vfma(eps, scale, sum);
    const V quotient = vreciprocal(divisor);
    divisors.keep(N + i, divisor * vreciprocal(scale));
    rows.times(i, divisor);
    MHC_UNROLL(4)
    for (int j = 0; j < N; ++j) m[i * N + j] = m[i * N + j] * quotient;
  }
}

// Undoes that: m as it was after the first columns and rows, h the gradient of its logarithm in, of the logits out.
template <int N, class V>
MHC_HD void sinkhorn_rewind_first(V (&m)[N * N], V (&h)[N * N], V eps_start, bool softmax_start, Sums<V> divisors) {
  sinkhorn_rewind<N, true>(m, h, divisors);
  if (softmax_start) {
    // m is the softmax plus eps: what is left of it without.
    MHC_UNROLL(16)
    for (int k = 0; k < N * N; ++k) {
      h[k] = h[k] * (1.0f - eps_start * vreciprocal(vmax(m[k], vbroadcast<V>(kSmallest))));
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

// The logarithm of an entry after some iterations: its logit, less the first pass' shifts, less the logarithms of all
// divisors of its row and its column, which `Logarithms` holds negated.
template <int N, class V>
struct Logarithms {
  V rows[N], columns[N];
};
// The logits with the first pass' shifts. values(k): the logits; of their transpose for deepseek-v4.
template <int N, class V, class Logits>
struct ShiftedLogits {
  const Logits& values;
  bool transposed;
  V top[N], most[N];

  MHC_HD V logit(int i, int j) const { return transposed ? values(j * N + i) : values(i * N + j); }
  MHC_HD V operator()(int i, int j) const { return (logit(i, j) - top[j]) - most[i]; }
  MHC_HD ShiftedLogits(const Logits& logits, bool transpose) : values(logits), transposed(transpose) {
    MHC_UNROLL(4)
    for (int j = 0; j < N; ++j) {
      top[j] = logit(0, j);
      MHC_UNROLL(4)
      for (int i = 1; i < N; ++i) top[j] = vmax(top[j], logit(i, j));
    }
    MHC_UNROLL(4)
    for (int i = 0; i < N; ++i) {
      most[i] = logit(i, 0) - top[0];
      MHC_UNROLL(4)
      for (int j = 1; j < N; ++j) most[i] = vmax(most[i], logit(i, j) - top[j]);
    }
  }

  // Entries too small to be held at `then` are computed again as they are `then + step`, to some 1e-5 of each; where
  // `least` is below kSuspect: no entry of a token with an eps_start is that small, and what a token gets must not
  // depend on others.
  MHC_HD void restore(V (&m)[N * N], V least, const Logarithms<N, V>& then, const Logarithms<N, V>& step) const {
    MHC_UNROLL(4)
    for (int i = 0; i < N; ++i) {
      MHC_UNROLL(4)
      for (int j = 0; j < N; ++j) {
        const V before = (*this)(i, j) + (then.rows[i] + then.columns[j]);
        const V after = vexp(before + (step.rows[i] + step.columns[j]));
        const V lost = vselect(least < vbroadcast<V>(kSuspect), before, V{});
        m[i * N + j] = vselect(lost < vbroadcast<V>(kLostLog), after, m[i * N + j]);
      }
    }
  }
};

// Onto `logs`, the divisors of iterations [from, to), none of them the first.
template <int N, class V>
MHC_HD void add_logarithms(Logarithms<N, V>& logs, Sums<V> sums, int from, int to) {
  MHC_UNROLL(1)
  for (int line = 0; line < N; ++line) {
    V columns = V{} + 1.0f, rows = V{} + 1.0f;
    for (int it = from; it < to; ++it) {
      columns = columns * sums[2 * it * N + line];
      rows = rows * sums[2 * it * N + N + line];
    }
    logs.columns[line] = logs.columns[line] - vlog(columns);
    logs.rows[line] = logs.rows[line] - vlog(rows);
  }
}

// The iterations after the first, in stretches. least: each token's smallest entry; rows, columns: the first's
// divisors.
template <int N, class V, class Kept, class Logits>
MHC_HD void sinkhorn_stretches(V (&m)[N * N], const Logits& logits, int iters, V eps, bool v4, Kept sums, V least,
                               Products<N, V>& rows, Products<N, V>& columns) {
  Logarithms<N, V> then;
  MHC_UNROLL(4)
  for (int i = 0; i < N; ++i) then.rows[i] = then.columns[i] = V{};
  for (int it = 1; it < iters; ++it) {
    const Kept at = sums + 2 * it * N;
    sinkhorn_normalise<N, false>(m, eps, at, columns);
    sinkhorn_normalise<N, true>(m, eps, at + N, rows);
    if (it % kStretch<N> != 0) continue;
    Logarithms<N, V> step;
    MHC_UNROLL(4)
    for (int i = 0; i < N; ++i) {
      step.rows[i] = V{} - vlog(rows.of[i]), step.columns[i] = V{} - vlog(columns.of[i]);
      rows.of[i] = columns.of[i] = V{} + 1.0f;
    }
    ShiftedLogits<N, V, Logits>(logits, v4).restore(m, least, then, step);
    MHC_UNROLL(4)
    for (int i = 0; i < N; ++i)
      then.rows[i] = then.rows[i] + step.rows[i], then.columns[i] = then.columns[i] + step.columns[i];
  }
}

// Logits to res, in place. Long: iters may be above kPlain; logits(k) are then read again. sums: NoSums, or Sums for
// sinkhorn_backward. deepseek-v4's res is its matrix transposed, so that of the transposed logits as it is.
template <int N, bool Long, class V, class Kept, class Logits>
MHC_HD void sinkhorn_forward(V (&m)[N * N], const Logits& logits, int iters, V eps, Convention convention, Kept sums) {
  const bool v4 = convention == Convention::kDeepSeekV4;
  const V eps_start = v4 ? eps : V{};
  if (v4) transpose_square<N>(m);
  Products<N, V> rows, columns;
  MHC_UNROLL(4)
  for (int i = 0; i < N; ++i) rows.of[i] = columns.of[i] = V{} + 1.0f;
  sinkhorn_first<N>(m, eps, eps_start, v4, sums, rows, columns);
  if constexpr (Long) {
    const V least = vmax(smallest<N>(m), eps_start);
    if (iters > kPlain<N> && vany(least < vbroadcast<V>(kSuspect)))
      return sinkhorn_stretches<N>(m, logits, iters, eps, v4, sums, least, rows, columns);
  }
  NoProducts none;
  for (int it = 1; it < iters; ++it) {
    const Kept at = sums + 2 * it * N;
    sinkhorn_normalise<N, false>(m, eps, at, none);
    sinkhorn_normalise<N, true>(m, eps, at + N, none);
  }
}

// Back from `upper` iterations at `lower`: what had become too small to be rewound.
template <int N, class V, class Logits>
MHC_HD void sinkhorn_restore_rewound(V (&m)[N * N], const Logits& logits, V least, bool v4, Sums<V> sums, int lower,
                                     int upper) {
  const ShiftedLogits<N, V, Logits> shifted(logits, v4);
  Logarithms<N, V> then, step;
  MHC_UNROLL(4)
  for (int i = 0; i < N; ++i) {
    step.rows[i] = step.columns[i] = V{};
    then.columns[i] = V{} - vlog(sums[i]);
    then.rows[i] = V{} - vmin(V{} - shifted.most[i], vbroadcast<V>(kLargestLogScale)) - vlog(sums[N + i]);
  }
  for (int it = 1; it <= lower; it += kStretch<N>) add_logarithms<N>(then, sums, it, it + kStretch<N>);
  add_logarithms<N>(step, sums, lower + 1, upper + 1);
  MHC_UNROLL(4)
  for (int i = 0; i < N; ++i) {
    then.rows[i] = then.rows[i] + step.rows[i], then.columns[i] = then.columns[i] + step.columns[i];
    step.rows[i] = V{} - step.rows[i], step.columns[i] = V{} - step.columns[i];
  }
  shifted.restore(m, least, then, step);
}

// g: gradient of res in, of the logits out. m: res, as sinkhorn_forward left it; logits and sums as it had them.
template <int N, bool Long, class V, class Logits>
MHC_HD void sinkhorn_backward(V (&m)[N * N], V (&g)[N * N], const Logits& logits, int iters, V eps,
                              Convention convention, Sums<V> sums) {
  const bool v4 = convention == Convention::kDeepSeekV4;
  const V eps_start = v4 ? eps : V{};
  MHC_UNROLL(16)
  for (int k = 0; k < N * N; ++k) g[k] = g[k] * m[k];
  for (int end = iters - 1; end > 0;) {
    // The stretch's beginning, as forward's; without stretches, the whole.
    const int begin = Long && iters > kPlain<N> ? (end - 1) / kStretch<N> * kStretch<N> : 0;
    const V least = vmax(smallest<N>(m), eps_start);
    for (int it = end; it > begin; --it) {
      const Sums<V> at = sums + 2 * it * N;
      sinkhorn_rewind<N, true>(m, g, at + N);
      sinkhorn_rewind<N, false>(m, g, at);
    }
    if constexpr (Long)
      if (iters > kPlain<N> && vany(least < vbroadcast<V>(kSuspect)))
        sinkhorn_restore_rewound<N>(m, logits, least, v4, sums, begin, end);
    end = begin;
  }
  sinkhorn_rewind_first<N>(m, g, eps_start, v4, sums + N);
  if (v4) transpose_square<N>(g);
}

}  // namespace BIRKHOFF_MATH
#endif
