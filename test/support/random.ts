/** Repeatable arrays for tests. Values are float32, so that every device sees exactly what the oracle sees. */

/** A generator of uniform numbers in [0, 1). */
export function generator(seed: number): () => number {
  let state = (seed * 0x9e3779b9) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** An array filled in order: `from({ length }, draw)` takes several times as long. */
function drawn<A extends Float32Array | Int32Array>(array: A, draw: () => number): A {
  for (let i = 0; i < array.length; i++) array[i] = draw();
  return array;
}

/** `size` values, uniform in [low, high). */
export function uniform(size: number, low: number, high: number, seed: number): Float32Array {
  const next = generator(seed);
  return drawn(new Float32Array(size), () => low + (high - low) * next());
}

/** `size` values from N(0, std²). */
export function normal(size: number, std: number, seed: number): Float32Array {
  const next = generator(seed);
  return drawn(
    new Float32Array(size),
    () => std * Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()),
  );
}

/**
 * `size` values of mean 0 and standard deviation `std`, at most 2.45 of it: value i is a hash of the seed and i, the sum of its halves.
 * A tenth of the time of `normal`, for arrays of millions; a longer array begins with the shorter one.
 */
export function spread(size: number, std: number, seed: number): Float32Array {
  const values = new Float32Array(size);
  const start = Math.imul(seed, 0x9e3779b9);
  const factor = std / Math.sqrt((65536 ** 2 - 1) / 6);
  for (let i = 0; i < size; i++) {
    let z = (start + i) | 0;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    z ^= z >>> 15;
    values[i] = factor * ((z >>> 16) + (z & 0xffff) - 65535);
  }
  return values;
}

/** `size` integers from 0 to below `bound`. */
export function integers(size: number, bound: number, seed: number): Int32Array {
  const next = generator(seed);
  return drawn(new Int32Array(size), () => Math.floor(next() * bound));
}

/**
 * A random cotangent: signed, away from 0, and a multiple of 1/64 below 2, so that a cotangent in bfloat16 is exact.
 * A cotangent of ones would hide whatever a sum cancels (the sum of a doubly stochastic matrix is constant).
 */
export function cotangent(size: number, seed: number): Float32Array {
  const next = generator(seed);
  return drawn(new Float32Array(size), () => (next() < 0.5 ? -1 : 1) * ((16 + Math.floor(next() * 96)) / 64));
}

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** The nearest bfloat16 (ties to even), as a number. */
export function roundBfloat16(value: number): number {
  float[0] = value;
  const u = word[0]!;
  if ((u & 0x7fffffff) > 0x7f800000) return Number.NaN;
  word[0] = (u + 0x7fff + ((u >>> 16) & 1)) & 0xffff0000;
  return float[0]!;
}

/** The values as a tensor of that dtype holds them, in float64. */
export function rounded(values: ArrayLike<number>, dtype: "float32" | "bfloat16" | "int32"): Float64Array {
  const exact = new Float64Array(values.length);
  for (let i = 0; i < exact.length; i++)
    exact[i] = dtype === "bfloat16" ? roundBfloat16(values[i]!) : Math.fround(values[i]!);
  return exact;
}
