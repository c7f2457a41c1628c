/**
 * Plain float64 references of the ops, written from the equations and not from the kernels. Arrays are row-major. gradcheck calls
 * them a thousand times per test: the connections' are plain loops over flat arrays.
 */

import { softmaxOracle } from "./oracle_matrix.ts";

type F = Float64Array;

const product = (extents: readonly number[]): number => extents.reduce((a, b) => a * b, 1);
export const sigmoid = (v: number): number => 1 / (1 + Math.exp(-v));

/** b repeats over the leading axes of a. */
const zip = (a: F, b: F, f: (a: number, b: number) => number): F => a.map((v, i) => f(v, b[i % b.length]!));

export const add = (a: F, b: F): F => zip(a, b, (x, y) => x + y);
export const mul = (a: F, b: F): F => zip(a, b, (x, y) => x * y);
export const scale = (x: F, factor: number): F => x.map((v) => v * factor);

const siluOf = (v: number): number => v * sigmoid(v);
export const silu = (x: F): F => x.map(siluOf);
export const gelu = (x: F): F =>
  x.map((v) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))));
export const swiglu = (gate: F, up: F): F => zip(gate, up, (g, u) => siluOf(g) * u);

/** y = x / √(mean x² + ε) · weight, per row of `channels`. */
export function rmsNorm(x: F, channels: number, weight?: F, eps = 1e-6): F {
  const y = new Float64Array(x.length);
  for (let row = 0; row < x.length; row += channels) {
    let squares = 0;
    for (let c = 0; c < channels; c++) squares += x[row + c]! ** 2;
    const inverse = 1 / Math.sqrt(squares / channels + eps);
    for (let c = 0; c < channels; c++) y[row + c] = x[row + c]! * inverse * (weight?.[c] ?? 1);
  }
  return y;
}

/** y = (x − mean) / √(variance + ε) · weight + bias, per row of `channels`. */
export function layerNorm(x: F, channels: number, weight?: F, bias?: F, eps = 1e-5): F {
  const y = new Float64Array(x.length);
  for (let row = 0; row < x.length; row += channels) {
    let mean = 0;
    for (let c = 0; c < channels; c++) mean += x[row + c]! / channels;
    let variance = 0;
    for (let c = 0; c < channels; c++) variance += (x[row + c]! - mean) ** 2 / channels;
    const inverse = 1 / Math.sqrt(variance + eps);
    for (let c = 0; c < channels; c++)
      y[row + c] = (x[row + c]! - mean) * inverse * (weight?.[c] ?? 1) + (bias?.[c] ?? 0);
  }
  return y;
}

/** Sum over one axis (negative counts from the end), or over everything. */
export function sum(x: F, shape: readonly number[], axis?: number): F {
  if (axis === undefined) return Float64Array.of(x.reduce((a, b) => a + b, 0));
  const at = axis < 0 ? axis + shape.length : axis;
  const inner = product(shape.slice(at + 1));
  const y = new Float64Array(product(shape.slice(0, at)) * inner);
  for (let i = 0; i < x.length; i++) y[Math.floor(i / (shape[at]! * inner)) * inner + (i % inner)]! += x[i]!;
  return y;
}

export function mean(x: F, shape: readonly number[], axis?: number): F {
  const count = axis === undefined ? x.length : shape.at(axis)!;
  return sum(x, shape, axis).map((v) => v / count);
}

/** result axis i = x axis permutation[i]. */
export function transpose(x: F, shape: readonly number[], permutation: readonly number[]): F {
  const target = permutation.map((p) => shape[p]!);
  const y = new Float64Array(x.length);
  for (let i = 0; i < y.length; i++) {
    const index = new Array<number>(shape.length).fill(0);
    for (let axis = target.length - 1, rest = i; axis >= 0; axis--) {
      index[permutation[axis]!] = rest % target[axis]!;
      rest = Math.floor(rest / target[axis]!);
    }
    y[i] = x[index.reduce((at, k, axis) => at * shape[axis]! + k, 0)]!;
  }
  return y;
}

/** Elements start … end − 1 along an axis. */
export function slice(x: F, shape: readonly number[], axis: number, start: number, end: number): F {
  const inner = product(shape.slice(axis + 1));
  return x.filter((_, i) => {
    const k = Math.floor(i / inner) % shape[axis]!;
    return k >= start && k < end;
  });
}

export function concat(parts: readonly F[], shapes: readonly (readonly number[])[], axis: number): F {
  const outer = product(shapes[0]!.slice(0, axis));
  const y: number[] = [];
  for (let o = 0; o < outer; o++)
    for (const part of parts) y.push(...part.subarray((o * part.length) / outer, ((o + 1) * part.length) / outer));
  return Float64Array.from(y);
}

export type Convention = "paper" | "deepseek-v4";

export interface MhcOptions {
  convention?: Convention;
  iters?: number;
  sinkhornEps?: number;
  normEps?: number;
}

/** Divides each of the n lines of m by its sum + eps; line i starts at i · `start`, its elements are `step` apart. */
function normalise(m: F, n: number, start: number, step: number, eps: number): void {
  for (let i = 0; i < n; i++) {
    let sum = 0;
    for (let j = 0; j < n; j++) sum += m[i * start + j * step]!;
    for (let j = 0; j < n; j++) m[i * start + j * step]! /= sum + eps;
  }
}

/** [tokens, n, n] to [tokens, n]: what Sinkhorn's start takes from each column. */
export function columnMaxima(logits: ArrayLike<number>, n: number): F {
  const top = new Float64Array(logits.length / n).fill(-Infinity);
  for (let i = 0; i < logits.length; i++) {
    const at = Math.floor(i / (n * n)) * n + (i % n);
    top[at] = Math.max(top[at]!, logits[i]!);
  }
  return top;
}

/** One n × n matrix. The canonical result has row = destination; deepseek-v4's own P is its transpose. */
function sinkhornMatrix(logits: F, n: number, iters: number, eps: number, convention: Convention, shifts?: F): F {
  const rows = (m: F) => normalise(m, n, n, 1, eps);
  const columns = (m: F) => normalise(m, n, 1, n, eps);
  if (convention === "paper") {
    const top = shifts ?? columnMaxima(logits, n);
    const m = new Float64Array(n * n);
    for (let i = 0; i < m.length; i++) m[i] = Math.exp(logits[i]! - top[i % n]!);
    for (let it = 0; it < iters; it++) {
      columns(m);
      rows(m);
    }
    return m;
  }
  const p = softmaxOracle(logits, n);
  for (let i = 0; i < p.length; i++) p[i]! += eps;
  columns(p);
  for (let it = 1; it < iters; it++) {
    rows(p);
    columns(p);
  }
  return transpose(p, [n, n], [1, 0]);
}

/**
 * [tokens, n, n] logits to doubly stochastic matrices. `shifts` [tokens, n]: what to subtract from each column instead of its
 * largest logit; gradients are defined with the shift held constant, which differs where ε > 0.
 */
export function sinkhorn(
  logits: F,
  n: number,
  options: { iters?: number; eps?: number; convention?: Convention; shifts?: F } = {},
): F {
  const { iters = 20, convention = "paper" } = options;
  const eps = options.eps ?? (convention === "paper" ? 0 : 1e-6);
  const out = new Float64Array(logits.length);
  for (let t = 0; t < logits.length; t += n * n)
    out.set(
      sinkhornMatrix(
        logits.subarray(t, t + n * n),
        n,
        iters,
        eps,
        convention,
        options.shifts?.subarray(t / n, t / n + n),
      ),
      t,
    );
  return out;
}

/** m = r · v φᵀ for one token (mHC eq. 14, 15): φ [N, K], r = (Σ v² / K + ε)^(−1/2). */
function project(v: F, phi: F, normEps: number): F {
  let squares = 0;
  for (let i = 0; i < v.length; i++) squares += v[i]! ** 2;
  const r = 1 / Math.sqrt(squares / v.length + normEps);
  const m = new Float64Array(phi.length / v.length);
  for (let k = 0; k < m.length; k++) {
    let q = 0;
    for (let i = 0; i < v.length; i++) q += v[i]! * phi[k * v.length + i]!;
    m[k] = r * q;
  }
  return m;
}

/**
 * mHC eq. 14 … 19: x [T, n, C], phi [n² + 2n, nC], alpha [3], bias [n² + 2n] → input [T, C], pre [T, n], post [T, n],
 * res [T, n, n].
 */
export function mhcPre(x: F, phi: F, alpha: F, bias: F, n: number, channels: number, options: MhcOptions = {}) {
  const { convention = "paper", iters, sinkhornEps, normEps = 1e-6 } = options;
  const [K, N] = [n * channels, n * n + 2 * n];
  const T = phi.length === 0 || K === 0 ? 0 : x.length / K;
  const input = new Float64Array(T * channels);
  const pre = new Float64Array(T * n);
  const post = new Float64Array(T * n);
  const logits = new Float64Array(T * n * n);
  for (let t = 0; t < T; t++) {
    const v = x.subarray(t * K, (t + 1) * K);
    const m = project(v, phi, normEps);
    for (let k = 0; k < N; k++) {
      const group = k < n ? 0 : k < 2 * n ? 1 : 2;
      const z = alpha[group]! * m[k]! + bias[k]!;
      if (group === 0) pre[t * n + k] = sigmoid(z) + (convention === "deepseek-v4" ? 1e-6 : 0);
      else if (group === 1) post[t * n + k - n] = 2 * sigmoid(z);
      else logits[t * n * n + k - 2 * n] = z;
    }
    for (let i = 0; i < n; i++)
      for (let c = 0; c < channels; c++) input[t * channels + c]! += pre[t * n + i]! * v[i * channels + c]!;
  }
  return { input, pre, post, res: sinkhorn(logits, n, { iters, eps: sinkhornEps, convention }) };
}

/** mHC eq. 3: y_i = Σ_j res_ij x_j + post_i f. */
export function mhcPost(x: F, f: F, post: F, res: F, n: number, channels: number): F {
  const y = new Float64Array(x.length);
  for (let t = 0; t * n * channels < x.length; t++)
    for (let i = 0; i < n; i++)
      for (let c = 0; c < channels; c++) {
        let sum = post[t * n + i]! * f[t * channels + c]!;
        for (let j = 0; j < n; j++) sum += res[(t * n + i) * n + j]! * x[(t * n + j) * channels + c]!;
        y[(t * n + i) * channels + c] = sum;
      }
  return y;
}

/** One whole connection around `branch`, which maps [T, C] to [T, C]. */
export function connect(
  x: F,
  phi: F,
  alpha: F,
  bias: F,
  branch: (u: F) => F,
  n: number,
  channels: number,
  options: MhcOptions = {},
): F {
  const { input, post, res } = mhcPre(x, phi, alpha, bias, n, channels, options);
  return mhcPost(x, branch(input), post, res, n, channels);
}

/** [T, C] → [T, n, C], copies. */
export function expand(h: F, n: number, channels: number): F {
  const y = new Float64Array(h.length * n);
  for (let at = 0; at < y.length; at++) y[at] = h[Math.floor(at / (n * channels)) * channels + (at % channels)]!;
  return y;
}

/** The learned head's parameters: phi [n, nC], alpha [1], bias [n]; `eps` is added to each weight. */
export interface LearnedContraction {
  phi: F;
  alpha: F;
  bias: F;
  normEps?: number;
  eps?: number;
}

/** [T, n, C] → [T, C]: Σ_i w_i x_i with w = 1, 1/n or σ(α·(r·v φᵀ)_i + b_i) + ε. */
export function contract(x: F, n: number, channels: number, how: "sum" | "mean" | LearnedContraction = "sum"): F {
  const K = n * channels;
  const out = new Float64Array(K === 0 ? 0 : x.length / n);
  for (let t = 0; t * K < x.length; t++) {
    const v = x.subarray(t * K, (t + 1) * K);
    const m = typeof how === "string" ? undefined : project(v, how.phi, how.normEps ?? 1e-6);
    for (let i = 0; i < n; i++) {
      const learned = typeof how === "string" ? 0 : sigmoid(how.alpha[0]! * m![i]! + how.bias[i]!) + (how.eps ?? 0);
      const weight = how === "sum" ? 1 : how === "mean" ? 1 / n : learned;
      for (let c = 0; c < channels; c++) out[t * channels + c]! += weight * v[i * channels + c]!;
    }
  }
  return out;
}
