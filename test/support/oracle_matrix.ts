/** Float64 references, written for clarity and apart from the library. Arrays are row-major. */

export interface MatmulExtents {
  batch?: number;
  m: number;
  n: number;
  k: number;
  transposeA?: boolean;
  transposeB?: boolean;
}

export function matmulOracle(a: Float64Array, b: Float64Array, e: MatmulExtents): Float64Array {
  const { batch = 1, m, n, k, transposeA = false, transposeB = false } = e;
  const c = new Float64Array(batch * m * n);
  // From one element of the sum to the next.
  const [stepA, stepB] = [transposeA ? m : 1, transposeB ? 1 : n];
  for (let t = 0; t < batch; t++)
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++) {
        let sum = 0;
        let atA = t * m * k + (transposeA ? i : i * k);
        let atB = t * k * n + (transposeB ? j * k : j);
        for (let p = 0; p < k; p++, atA += stepA, atB += stepB) sum += a[atA]! * b[atB]!;
        c[t * m * n + i * n + j] = sum;
      }
  return c;
}

export function linearOracle(
  x: Float64Array,
  weight: Float64Array,
  bias: Float64Array | undefined,
  inputs: number,
  outputs: number,
): Float64Array {
  const rows = inputs === 0 ? 0 : x.length / inputs;
  return matmulOracle(x, weight, { m: rows, n: outputs, k: inputs, transposeB: true }).map(
    (v, i) => v + (bias ? bias[i % outputs]! : 0),
  );
}

export function embeddingOracle(indices: ArrayLike<number>, weight: Float64Array, channels: number): Float64Array {
  const out = new Float64Array(indices.length * channels);
  for (let t = 0; t < indices.length; t++)
    for (let c = 0; c < channels; c++) out[t * channels + c] = weight[indices[t]! * channels + c]!;
  return out;
}

export function softmaxOracle(x: Float64Array, columns: number): Float64Array {
  const y = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += columns) {
    let top = -Infinity;
    for (let i = at; i < at + columns; i++) top = Math.max(top, x[i]!);
    let sum = 0;
    for (let i = at; i < at + columns; i++) {
      y[i] = Math.exp(x[i]! - top);
      sum += y[i]!;
    }
    for (let i = at; i < at + columns; i++) y[i]! /= sum;
  }
  return y;
}

export function crossEntropyOracle(logits: Float64Array, targets: ArrayLike<number>, classes: number): Float64Array {
  let loss = 0;
  for (let t = 0; t < targets.length; t++) {
    const row = logits.subarray(t * classes, (t + 1) * classes);
    const top = row.reduce((a, b) => Math.max(a, b), -Infinity);
    let sum = 0;
    for (const v of row) sum += Math.exp(v - top);
    loss += Math.log(sum) + top - row[targets[t]!]!;
  }
  return Float64Array.of(loss / targets.length);
}

export interface AttentionExtents {
  heads: number;
  length: number;
  size: number;
  causal: boolean;
  scale: number;
}

/** The matrix softmax(scale · q kᵀ), [heads, T, T]. */
export function attentionWeights(q: Float64Array, k: Float64Array, e: AttentionExtents): Float64Array {
  const { heads, length, size, causal, scale } = e;
  const scores = matmulOracle(q, k, { batch: heads, m: length, n: length, k: size, transposeB: true });
  for (let row = 0; row < heads * length; row++)
    for (let key = 0; key < length; key++)
      scores[row * length + key] = causal && key > row % length ? -Infinity : scale * scores[row * length + key]!;
  return softmaxOracle(scores, length);
}

export function attentionOracle(q: Float64Array, k: Float64Array, v: Float64Array, e: AttentionExtents): Float64Array {
  return matmulOracle(attentionWeights(q, k, e), v, { batch: e.heads, m: e.length, n: e.size, k: e.length });
}

const low = (v: bigint) => v & 0xffffffffn;

/** Philox4x32-10 from the paper (Salmon et al., SC 2011), on bigints. */
export function philoxOracle(counter: readonly bigint[], key: readonly bigint[]): bigint[] {
  let [c0, c1, c2, c3] = counter as [bigint, bigint, bigint, bigint];
  let [k0, k1] = key as [bigint, bigint];
  for (let round = 0; round < 10; round++) {
    const [p0, p1] = [0xd2511f53n * c0, 0xcd9e8d57n * c2];
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, low(p1), (p0 >> 32n) ^ c3 ^ k1, low(p0)];
    [k0, k1] = [low(k0 + 0x9e3779b9n), low(k1 + 0xbb67ae85n)];
  }
  return [c0, c1, c2, c3];
}

/** Which elements dropout keeps. */
export function dropoutMask(size: number, p: number, seed: number): boolean[] {
  const key = [low(BigInt(seed)), BigInt(seed) >> 32n];
  const threshold = BigInt(Math.round(p * 2 ** 32));
  return Array.from({ length: size }, (_, i) => {
    const words = philoxOracle([BigInt(Math.floor(i / 4)), 0n, 0x64726f70n, 0n], key);
    return words[i % 4]! >= threshold;
  });
}

export interface AdamWSettings {
  lr: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
}

/** One step on plain arrays, in place. */
export function adamwOracle(
  state: { param: Float64Array; m: Float64Array; v: Float64Array },
  grad: Float64Array,
  step: number,
  s: AdamWSettings,
): void {
  for (let i = 0; i < grad.length; i++) {
    const m = s.beta1 * state.m[i]! + (1 - s.beta1) * grad[i]!;
    const v = s.beta2 * state.v[i]! + (1 - s.beta2) * grad[i]! ** 2;
    state.m[i] = m;
    state.v[i] = v;
    const update = m / (1 - s.beta1 ** step) / (Math.sqrt(v / (1 - s.beta2 ** step)) + s.eps);
    state.param[i] = state.param[i]! * (1 - s.lr * s.weightDecay) - s.lr * update;
  }
}
