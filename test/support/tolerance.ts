/**
 * Bounds as formulas. One float32 operation errs by at most 2⁻²⁴ of its result, so a chain of k of them by about k · 2⁻²⁴ of
 * the largest value it passes through; storing one bfloat16 (8 significant bits) errs by at most 2⁻⁸ of the value.
 */

/** k float32 roundings, relative. */
export const float32Steps = (k: number): number => k * 2 ** -24;

/** One rounding to bfloat16, relative. */
export const bfloat16Rounding = 2 ** -8;

/** Relative bound of one stored result of a dtype. */
export const storeRounding = (dtype: string): number => (dtype === "bfloat16" ? bfloat16Rounding : float32Steps(1));

export interface Tolerance {
  /** Of each expected value. */
  relative?: number;
  /** Of the largest expected magnitude: for results that cancellation makes smaller than what they were summed from. */
  scaled?: number;
  /** In the values' own units. */
  absolute?: number;
}

/** Sum of two tolerances. */
export function both(a: Tolerance, b: Tolerance): Tolerance {
  return {
    relative: (a.relative ?? 0) + (b.relative ?? 0),
    scaled: (a.scaled ?? 0) + (b.scaled ?? 0),
    absolute: (a.absolute ?? 0) + (b.absolute ?? 0),
  };
}

/** Throws unless |actual − expected| ≤ absolute + relative·|expected| + scaled·max|expected| everywhere; NaN never passes. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: Tolerance & { label?: string },
): void {
  const { relative = 0, scaled = 0, absolute = 0, label = "values" } = tolerance;
  if (actual.length !== expected.length) throw new Error(`${label}: ${actual.length} values, want ${expected.length}`);
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    const magnitude = Math.abs(expected[i]!);
    if (Number.isFinite(magnitude) && magnitude > largest) largest = magnitude;
  }
  let worst = -1;
  let worstRatio = 0;
  let failures = 0;
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i]!;
    const e = expected[i]!;
    if (a === e) continue;
    const bound = absolute + relative * Math.abs(e) + scaled * largest;
    const error = Math.abs(a - e);
    if (error <= bound && Number.isFinite(e)) continue;
    failures++;
    const ratio = Number.isNaN(error) || bound === 0 || !Number.isFinite(e) ? Infinity : error / bound;
    if (worst < 0 || ratio > worstRatio) {
      worst = i;
      worstRatio = ratio;
    }
  }
  if (failures === 0) return;
  const a = actual[worst]!;
  const e = expected[worst]!;
  throw new Error(
    `${label}: ${failures} of ${expected.length} values out of tolerance; worst at index ${worst}: got ${a}, want ${e}, ` +
      `off by ${Math.abs(a - e)} = ${worstRatio.toPrecision(3)} times the bound ` +
      `(relative ${relative}, scaled ${scaled} of ${largest}, absolute ${absolute})`,
  );
}

/** Throws unless both hold the same bits (0 and −0 differ, NaN equals the same NaN). */
export function assertBitwiseEqual(
  actual: Float32Array | Int32Array | Uint16Array,
  expected: Float32Array | Int32Array | Uint16Array,
  label = "values",
): void {
  const bits = (array: Float32Array | Int32Array | Uint16Array) =>
    array instanceof Float32Array ? new Uint32Array(array.buffer, array.byteOffset, array.length) : array;
  const [a, b] = [bits(actual), bits(expected)];
  if (a.length !== b.length) throw new Error(`${label}: ${a.length} values, want ${b.length}`);
  for (let i = 0; i < a.length; i++)
    if (a[i] !== b[i]) throw new Error(`${label}: bits differ at index ${i}: ${actual[i]} and ${expected[i]}`);
}
