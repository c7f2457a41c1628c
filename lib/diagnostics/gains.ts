/**
 * Amax gain magnitudes (mHC §3, figures 3, 7, 8): by how much a residual mapping can amplify signals and gradients.
 *
 * forward  = max_i |Σ_j res_ij|,  backward = max_j |Σ_i res_ij|,  per token, averaged over the tokens of a sequence;
 * composite = res_L · … · res_1 of the same token. Errors are the largest |sum − 1| over all tokens.
 */
import { ShapeError } from "../errors.ts";
import { checkInteger } from "../validate.ts";

/** Gains and errors of one mapping, over the tokens of a sequence. */
export interface Gains {
  /** Mean over tokens of the largest |row sum|; 1 for a doubly stochastic res. */
  forward: number;
  /** Mean over tokens of the largest |column sum|. */
  backward: number;
  /** Largest |row sum − 1|. */
  rowError: number;
  /** Largest |column sum − 1|. */
  columnError: number;
}

export interface GainReport {
  /** One per connection, in order. */
  connections: Gains[];
  /** Of res_L · … · res_1. */
  composite: Gains;
}

type Matrices = Float32Array | Float64Array;

function tokensOf(fn: string, res: Matrices, n: number): number {
  checkInteger(fn, "n", n, 1);
  if (res.length === 0 || res.length % (n * n) !== 0)
    throw new ShapeError(`${fn}: res has ${res.length} values, want a positive multiple of n² = ${n * n}`);
  return res.length / (n * n);
}

/** Row and column sums of each token's matrix, [T, n] each. @param res  [T, n, n], row = destination stream */
export function lineSums(res: Matrices, n: number): { rows: Float64Array; columns: Float64Array } {
  const tokens = tokensOf("lineSums", res, n);
  const rows = new Float64Array(tokens * n);
  const columns = new Float64Array(tokens * n);
  for (let t = 0; t < tokens; t++)
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) {
        const value = res[(t * n + i) * n + j]!;
        rows[t * n + i]! += value;
        columns[t * n + j]! += value;
      }
  return { rows, columns };
}

/** @param res  [T, n, n], T ≥ 1   @throws {ShapeError} not a whole number of n × n matrices */
export function gains(res: Matrices, n: number): Gains {
  const { rows, columns } = lineSums(res, n);
  const forward = summarise(rows, n);
  const backward = summarise(columns, n);
  return { forward: forward.gain, backward: backward.gain, rowError: forward.error, columnError: backward.error };
}

// NaN must show, so the comparisons are written to let it through.
function summarise(sums: Float64Array, n: number): { gain: number; error: number } {
  let total = 0;
  let error = 0;
  for (let t = 0; t < sums.length; t += n) {
    let largest = 0;
    for (let i = t; i < t + n; i++) {
      largest = Math.max(largest, Math.abs(sums[i]!));
      error = Math.max(error, Math.abs(sums[i]! - 1));
    }
    total += largest;
  }
  return { gain: total / (sums.length / n), error };
}

/**
 * The composite mapping of consecutive connections, token by token: list[last] · … · list[0], in float64.
 *
 * @param list  [T, n, n] each, in the order in which the network applies them
 * @throws {ShapeError} an empty list, or lengths that differ
 */
export function composite(list: readonly Matrices[], n: number): Float64Array {
  const fn = "composite";
  const [first, ...rest] = list;
  if (!first) throw new ShapeError(`${fn}: list is empty, want at least one mapping`);
  const tokens = tokensOf(fn, first, n);
  let product = Float64Array.from(first);
  for (const [k, res] of rest.entries()) {
    if (res.length !== first.length)
      throw new ShapeError(`${fn}: list[${k + 1}] has ${res.length} values, want ${first.length} as list[0]`);
    const next = new Float64Array(product.length);
    for (let t = 0; t < tokens; t++)
      for (let i = 0; i < n; i++)
        for (let m = 0; m < n; m++) {
          const left = res[(t * n + i) * n + m]!;
          for (let j = 0; j < n; j++) next[(t * n + i) * n + j]! += left * product[(t * n + m) * n + j]!;
        }
    product = next;
  }
  return product;
}

/** Gains of each connection and of the composite of all. @param list  [T, n, n] each, in order */
export function gainReport(list: readonly Matrices[], n: number): GainReport {
  return { connections: list.map((res) => gains(res, n)), composite: gains(composite(list, n), n) };
}
