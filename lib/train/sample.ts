/** Text generation: one token at a time from the model's distribution, on the host. */
import { noGrad } from "../autograd.ts";
import { ArgumentRangeError, NonFiniteError } from "../errors.ts";
import type { GPT } from "../nn/gpt.ts";
import * as ops from "../ops/index.ts";
import { hostRandom } from "../random.ts";
import { keep, Tensor, tidy } from "../tensor.ts";
import { checkInteger, checkNumber, checkOptions, type Keys } from "../validate.ts";

export interface SampleOptions {
  /** Divides the logits; 0 takes the most likely token. Default 1. */
  temperature?: number;
  /** Draws among the k most likely tokens only; default all. */
  topK?: number;
}

const sampleKeys: Keys<SampleOptions> = { temperature: "checked", topK: "checked" };

export interface GenerateOptions extends SampleOptions {
  /** Tokens to generate, ≥ 1; default 100. */
  maxTokens?: number;
  /** Integer 0 … 2^32 − 1; default 0. */
  seed?: number;
  /** Ends the sequence early. */
  signal?: AbortSignal;
}

const generateKeys: Keys<GenerateOptions> = {
  ...sampleKeys,
  maxTokens: "checked",
  seed: "checked",
  signal: "signal",
};

/**
 * Draws one token from softmax(logits / temperature), restricted to the topK largest logits.
 *
 * @param random  returns numbers in [0, 1)   @throws {NonFiniteError} a logit is NaN or no logit is finite
 * @throws {RangeError} an option out of range   @throws {TypeError} an unknown option
 */
export function sampleToken(logits: ArrayLike<number>, options: SampleOptions, random: () => number): number {
  checkOptions("sampleToken", options, sampleKeys);
  const temperature = checkNumber("sampleToken", "options.temperature", options.temperature ?? 1, 0);
  const topK = checkInteger("sampleToken", "options.topK", options.topK ?? logits.length, 1);
  const order = Array.from({ length: logits.length }, (_, i) => i);
  if (order.some((i) => Number.isNaN(logits[i])))
    throw new NonFiniteError("sampleToken: a logit is NaN, want numbers: the model's weights are not finite");
  // Ties go to the smaller token, so that the result does not depend on the sort.
  order.sort((a, b) => logits[b]! - logits[a]! || a - b);
  const best = order[0]!;
  if (!Number.isFinite(logits[best]!))
    throw new NonFiniteError(`sampleToken: the largest logit is ${logits[best]}, want a finite number`);
  if (temperature === 0) return best;
  const candidates = order.slice(0, topK);
  const weights = candidates.map((i) => Math.exp((logits[i]! - logits[best]!) / temperature));
  let point = random() * weights.reduce((a, b) => a + b, 0);
  for (const [k, weight] of weights.entries()) {
    point -= weight;
    if (point < 0) return candidates[k]!;
  }
  return best;
}

/**
 * Continues a prompt; yields each new token as soon as it is drawn. Only the last `context` tokens are seen by the model.
 *
 * @param prompt  at least one token, each in 0 … vocab − 1
 * @throws {RangeError} an empty prompt, a token outside the vocabulary, or an option out of range
 * @throws {TypeError} an unknown option, or one of another type
 */
export function generate(
  model: GPT,
  prompt: Iterable<number>,
  options: GenerateOptions = {},
): AsyncGenerator<number, void, undefined> {
  const fn = "generate";
  checkOptions(fn, options, generateKeys);
  const { vocab, context } = model.options;
  const tokens = [...prompt];
  if (tokens.length === 0) throw new ArgumentRangeError(`${fn}: prompt has 0 tokens, want at least 1`);
  for (const [i, token] of tokens.entries()) checkInteger(fn, `prompt[${i}]`, token, 0, vocab - 1);
  const maxTokens = checkInteger(fn, "options.maxTokens", options.maxTokens ?? 100, 1);
  const temperature = checkNumber(fn, "options.temperature", options.temperature ?? 1, 0);
  const topK = checkInteger(fn, "options.topK", options.topK ?? vocab, 1);
  const random = hostRandom(checkInteger(fn, "options.seed", options.seed ?? 0, 0, 2 ** 32 - 1));
  return (async function* () {
    for (let k = 0; k < maxTokens && !options.signal?.aborted; k++) {
      const window = tokens.slice(-context);
      const logits = tidy(() => noGrad(() => keep(lastLogits(model, window))));
      let values: Float32Array | Int32Array;
      try {
        values = await logits.data();
      } finally {
        logits.dispose();
      }
      const token = sampleToken(values, { temperature, topK }, random);
      tokens.push(token);
      yield token;
    }
  })();
}

// Only the last position needs the output layer.
function lastLogits(model: GPT, window: readonly number[]): Tensor {
  const device = model.parameters()[0]!.device;
  const input = Tensor.from(Int32Array.from(window), [1, window.length], { device });
  return model.logits(ops.slice(model.hidden(input), 1, window.length - 1, window.length));
}
