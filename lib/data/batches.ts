/** Windows of a token sequence: random ones to train on, from a seed; consecutive ones to evaluate on. */

import { hostRandom } from "../random.ts";
import { Tensor } from "../tensor.ts";
import { checkInteger, checkOptions, type Keys } from "../validate.ts";
import { checkLength, type Tokens } from "./dataset.ts";

export interface BatchOptions {
  /** Windows per batch. */
  batch: number;
  /** Tokens per window. */
  context: number;
}

interface RandomOptions extends BatchOptions {
  /** Integer 0 … 2^32 − 1; default 0. */
  seed?: number;
}

interface SequentialOptions extends BatchOptions {
  /** At most so many batches; default all. */
  batches?: number;
}

const randomKeys: Keys<RandomOptions> = { batch: "checked", context: "checked", seed: "checked" };
const sequentialKeys: Keys<SequentialOptions> = { batch: "checked", context: "checked", batches: "checked" };
const deviceKeys: Keys<{ device?: string }> = { device: "string" };

/** Token numbers, row-major [rows, context]; targets[i] is the token after tokens[i]. */
export interface Batch {
  rows: number;
  context: number;
  tokens: Int32Array;
  targets: Int32Array;
}

function gather(source: Tokens, starts: readonly number[], context: number): Batch {
  const tokens = new Int32Array(starts.length * context);
  const targets = new Int32Array(starts.length * context);
  for (const [row, start] of starts.entries()) {
    tokens.set(source.subarray(start, start + context), row * context);
    targets.set(source.subarray(start + 1, start + 1 + context), row * context);
  }
  return { rows: starts.length, context, tokens, targets };
}

/**
 * Endless batches of windows at random positions, a pure function of the seed.
 *
 * @throws {DataError} fewer than context + 1 tokens   @throws {RangeError}   @throws {TypeError} an unknown option
 */
export function randomBatches(tokens: Tokens, options: RandomOptions): Generator<Batch, never> {
  const fn = "randomBatches";
  checkOptions(fn, options, randomKeys);
  const batch = checkInteger(fn, "options.batch", options.batch, 1);
  const context = checkInteger(fn, "options.context", options.context, 1);
  const random = hostRandom(checkInteger(fn, "options.seed", options.seed ?? 0, 0, 2 ** 32 - 1));
  checkLength(fn, "tokens", tokens, context);
  const starts = tokens.length - context;
  return (function* () {
    for (;;)
      yield gather(
        tokens,
        Array.from({ length: batch }, () => Math.floor(random() * starts)),
        context,
      );
  })();
}

/**
 * All consecutive windows once, in order, `batch` at a time; the last batch may be smaller, tokens that fill no window are left out.
 *
 * @throws {DataError} fewer than context + 1 tokens   @throws {RangeError}   @throws {TypeError} an unknown option
 */
export function sequentialBatches(tokens: Tokens, options: SequentialOptions): Generator<Batch, undefined> {
  const fn = "sequentialBatches";
  checkOptions(fn, options, sequentialKeys);
  const batch = checkInteger(fn, "options.batch", options.batch, 1);
  const context = checkInteger(fn, "options.context", options.context, 1);
  const limit = options.batches === undefined ? Infinity : checkInteger(fn, "options.batches", options.batches, 1);
  checkLength(fn, "tokens", tokens, context);
  const windows = Math.floor((tokens.length - 1) / context);
  return (function* () {
    for (let first = 0, k = 0; first < windows && k < limit; first += batch, k++) {
      const rows = Math.min(batch, windows - first);
      yield gather(
        tokens,
        Array.from({ length: rows }, (_, i) => (first + i) * context),
        context,
      );
    }
    return undefined;
  })();
}

/** A batch as int32 tensors [rows, context]. @throws {TypeError} an unknown option */
export function batchTensors(batch: Batch, options: { device?: string } = {}): { tokens: Tensor; targets: Tensor } {
  checkOptions("batchTensors", options, deviceKeys);
  const shape = [batch.rows, batch.context];
  return { tokens: Tensor.from(batch.tokens, shape, options), targets: Tensor.from(batch.targets, shape, options) };
}
