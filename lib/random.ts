/** Seeds. Every random draw is a pure function of (seed, counter), so a run is repeatable at any thread count. */
import { checkInteger } from "./validate.ts";

let seedBase = 0;
let seedCount = 0;

/** Restarts the sequence of seeds used by `Tensor.randn`, initialisers and dropout. @param seed integer 0 … 2^32 − 1 */
export function setSeed(seed: number): void {
  seedBase = checkInteger("setSeed", "seed", seed, 0, 2 ** 32 - 1);
  seedCount = 0;
}

let refusal: (() => Error) | undefined;

/** @internal While set, `nextSeed` throws what it returns. */
export function refuseSeeds(error: (() => Error) | undefined): void {
  refusal = error;
}

/** @internal The next seed: 32 bits of user seed, 21 bits of counter, so that no two draws of a run share one. */
export function nextSeed(): number {
  if (refusal) throw refusal();
  seedCount = (seedCount + 1) % 2 ** 21;
  return seedBase * 2 ** 21 + seedCount;
}

/** @internal State of the sequence, for checkpoints. */
export function seedState(): { base: number; count: number } {
  return { base: seedBase, count: seedCount };
}

/** A small repeatable generator (SplitMix-style, 32 bits) for host-side choices: batches, sampling. Returns [0, 1). */
export function hostRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
  };
}
