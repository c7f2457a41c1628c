// Sinkhorn for tokens whose logits span more than float32's exponents hold: a row far below the others would underflow
// as a whole, and over many iterations an entry that was lost may grow into sight. Part of ops/sinkhorn.h.
//
// The first columns and rows take their exponentials relative to the largest of each line; after them every line sums
// to 1/n^2 at least. Every kStretch iterations, what was lost at the stretch's beginning is computed again,
//
//   log m_ij = (L_ij - top_j) - most_i - (logarithms of all divisors of row i and of column j)
//
// and backward does the same for what cannot be rewound because it has become too small. Out of line, over matrices in
// memory and with loops that stay loops: rare, and not to be paid for in registers or code by all. Vectors hold other
// tokens too: suspect says whose results are taken.
namespace BIRKHOFF_MATH {

// Entries below exp(kLostLog) when a stretch begins are computed again when it ends. Where all rows but one meet in one
// column, an iteration multiplies what else they have by up to (n - 1)^2: from exp(kLostLog) to 1e-8 within a stretch.
inline constexpr float kLostLog = -83.0f;
template <int N>
inline constexpr int kStretch = N == 8   ? 16
                                : N == 4 ? 24
                                         : kMaxSinkhornIters;
// Of a row that lies further below the others than exp(-80), eps and what the columns left are taken as of one at that.
inline constexpr float kLargestLogScale = 80.0f;

// Negated logarithms of divisors, multiplied up per line.
template <int N, class V>
struct Logarithms {
  V rows[N], columns[N];
};

// What the first pass takes off the logits: of each column the largest, then of each row.
template <int N, class V>
struct Shifts {
  V top[N], most[N];
};

template <int N, class V>
MHC_COLD void sinkhorn_shifts(const V* logits, Shifts<N, V>& shifts) {
  MHC_ROLLED
  for (int j = 0; j < N; ++j) {
    shifts.top[j] = logits[j];
    MHC_ROLLED
    for (int i = 1; i < N; ++i) shifts.top[j] = vmax(shifts.top[j], logits[i * N + j]);
  }
  MHC_ROLLED
  for (int i = 0; i < N; ++i) {
    shifts.most[i] = logits[i * N] - shifts.top[0];
    MHC_ROLLED
    for (int j = 1; j < N; ++j) shifts.most[i] = vmax(shifts.most[i], logits[i * N + j] - shifts.top[j]);
  }
}

// Entries too small to be held at `then` are computed again as they are at `then + step`, to some 1e-5 of each.
template <int N, class V>
MHC_COLD void sinkhorn_restore(V* m, const V* logits, const Shifts<N, V>& shifts, const Logarithms<N, V>& then,
                               const Logarithms<N, V>& step) {
  MHC_ROLLED
  for (int i = 0; i < N; ++i) {
    MHC_ROLLED
    for (int j = 0; j < N; ++j) {
      const V own = (logits[i * N + j] - shifts.top[j]) - shifts.most[i];
      const V before = own + (then.rows[i] + then.columns[j]);
      const V after = vexp(before + (step.rows[i] + step.columns[j]));
      m[i * N + j] = vselect(before < vbroadcast<V>(kLostLog), after, m[i * N + j]);
    }
  }
}

// m: logits in, after the first columns and rows out. rows, columns: the divisors that its exponentials had.
template <int N, class V, class Kept, class Mask>
MHC_COLD void sinkhorn_lost_start(V* m, const Shifts<N, V>& shifts, const V& eps, Kept sums, const Mask& suspect,
                                  V* rows, V* columns) {
  MHC_ROLLED
  for (int j = 0; j < N; ++j) {
    V sum = eps;
    MHC_ROLLED
    for (int i = 0; i < N; ++i) {
      V rest;
      const V d = difference(m[i * N + j], shifts.top[j], rest);
      sum = sum + vexp_negative(d, rest);
    }
    columns[j] = sum;
    sums.replace(j, suspect, sum);
  }
  MHC_ROLLED
  for (int i = 0; i < N; ++i) {
    const V scale = vexp(vmin(V{} - shifts.most[i], vbroadcast<V>(kLargestLogScale)));
    V sum = eps * scale;
    MHC_ROLLED
    for (int j = 0; j < N; ++j) {
      V rest, more;
      const V d = difference(m[i * N + j], shifts.top[j], rest);
      const V below = difference(d, shifts.most[i], more);
      m[i * N + j] = vexp_negative(below, rest + more) * vreciprocal(columns[j]);
      sum = sum + m[i * N + j];
    }
    rows[i] = sum;
    sums.replace(N + i, suspect, sum * vreciprocal(scale));
    const V inverse = vreciprocal(sum);
    MHC_ROLLED
    for (int j = 0; j < N; ++j) m[i * N + j] = m[i * N + j] * inverse;
  }
}

// m: logits (transposed for deepseek-v4) in, res out. sums: replaced by those of suspect tokens.
template <int N, class V, class Kept, class Mask>
MHC_COLD void sinkhorn_lost(V* m, int iters, const V& eps, Kept sums, const Mask& suspect) {
  V logits[N * N], rows[N], columns[N];
  MHC_ROLLED
  for (int k = 0; k < N * N; ++k) logits[k] = m[k];
  Shifts<N, V> shifts;
  sinkhorn_shifts<N, V>(logits, shifts);
  sinkhorn_lost_start<N, V>(m, shifts, eps, sums, suspect, rows, columns);
  Logarithms<N, V> then, step;
  MHC_ROLLED
  for (int i = 0; i < N; ++i) then.rows[i] = then.columns[i] = V{};
  MHC_ROLLED
  for (int half = 2; half < 2 * iters; ++half) {
    const bool of_rows = half % 2 == 1;
    V* const products = of_rows ? rows : columns;
    MHC_ROLLED
    for (int line = 0; line < N; ++line) {
      const int start = of_rows ? line * N : line, stride = of_rows ? 1 : N;
      V sum = m[start];
      MHC_ROLLED
      for (int k = 1; k < N; ++k) sum = sum + m[start + k * stride];
      const V divisor = sum + eps;
      sums.replace(half * N + line, suspect, divisor);
      products[line] = products[line] * divisor;
      const V inverse = vreciprocal(divisor);
      MHC_ROLLED
      for (int k = 0; k < N; ++k) m[start + k * stride] = m[start + k * stride] * inverse;
    }
    if (!of_rows || half / 2 % kStretch<N> != 0) continue;
    MHC_ROLLED
    for (int i = 0; i < N; ++i) {
      step.rows[i] = V{} - vlog(rows[i]), step.columns[i] = V{} - vlog(columns[i]);
      rows[i] = columns[i] = V{} + 1.0f;
    }
    sinkhorn_restore<N, V>(m, logits, shifts, then, step);
    MHC_ROLLED
    for (int i = 0; i < N; ++i) {
      then.rows[i] = then.rows[i] + step.rows[i];
      then.columns[i] = then.columns[i] + step.columns[i];
    }
  }
}

// Onto `logs`, the divisors of iterations [from, to), none of them the first; at most kStretch of them.
template <int N, class V>
MHC_COLD void add_logarithms(Logarithms<N, V>& logs, Sums<V> sums, int from, int to) {
  MHC_ROLLED
  for (int line = 0; line < N; ++line) {
    V columns = V{} + 1.0f, rows = V{} + 1.0f;
    MHC_ROLLED
    for (int it = from; it < to; ++it) {
      columns = columns * sums[2 * it * N + line];
      rows = rows * sums[2 * it * N + N + line];
    }
    logs.columns[line] = logs.columns[line] - vlog(columns);
    logs.rows[line] = logs.rows[line] - vlog(rows);
  }
}

// One normalisation undone; see sinkhorn_rewind.
template <int N, class V>
MHC_COLD void sinkhorn_lost_rewind(V* m, V* h, Sums<V> divisors, bool of_rows) {
  MHC_ROLLED
  for (int line = 0; line < N; ++line) {
    const int start = of_rows ? line * N : line, stride = of_rows ? 1 : N;
    V sum = h[start];
    MHC_ROLLED
    for (int k = 1; k < N; ++k) sum = sum + h[start + k * stride];
    MHC_ROLLED
    for (int k = 0; k < N; ++k) {
      const int at = start + k * stride;
      h[at] = vfma(V{} - m[at], sum, h[at]);
      m[at] = m[at] * divisors[line];
    }
  }
}

// m: res, h: the gradient of its logarithm in, of the logits (transposed for deepseek-v4) out. Without an eps_start.
template <int N, class V>
MHC_COLD void sinkhorn_lost_backward(V* m, V* h, const V* logits, int iters, Sums<V> sums) {
  Shifts<N, V> shifts;
  sinkhorn_shifts<N, V>(logits, shifts);
  Logarithms<N, V> then, step;
  MHC_ROLLED
  for (int end = iters - 1; end > 0;) {
    const int begin = (end - 1) / kStretch<N> * kStretch<N>;
    MHC_ROLLED
    for (int half = 2 * end + 1; half > 2 * begin + 1; --half)
      sinkhorn_lost_rewind<N, V>(m, h, sums + half * N, half % 2 == 1);
    // Of the first pass, whose rows' divisors are kept with their shift.
    MHC_ROLLED
    for (int i = 0; i < N; ++i) {
      step.rows[i] = step.columns[i] = V{};
      then.columns[i] = V{} - vlog(sums[i]);
      then.rows[i] = V{} - vmin(V{} - shifts.most[i], vbroadcast<V>(kLargestLogScale)) - vlog(sums[N + i]);
    }
    MHC_ROLLED
    for (int it = 1; it <= begin; it += kStretch<N>) add_logarithms<N, V>(then, sums, it, it + kStretch<N>);
    add_logarithms<N, V>(step, sums, begin + 1, end + 1);
    MHC_ROLLED
    for (int i = 0; i < N; ++i) {
      then.rows[i] = then.rows[i] + step.rows[i], then.columns[i] = then.columns[i] + step.columns[i];
      step.rows[i] = V{} - step.rows[i], step.columns[i] = V{} - step.columns[i];
    }
    sinkhorn_restore<N, V>(m, logits, shifts, then, step);
    end = begin;
  }
  sinkhorn_lost_rewind<N, V>(m, h, sums + N, true);
  // The columns' divisors undo nothing that is still asked for.
  sinkhorn_lost_rewind<N, V>(m, h, sums, false);
}

}  // namespace BIRKHOFF_MATH
