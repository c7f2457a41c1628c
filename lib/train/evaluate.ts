/** Held-out loss: consecutive windows, nothing recorded for gradients, nothing kept. */
import { noGrad } from "../autograd.ts";
import { batchTensors, sequentialBatches } from "../data/batches.ts";
import type { Tokens } from "../data/dataset.ts";
import { keep, type Tensor, tidy } from "../tensor.ts";
import { checkOptions, type Keys } from "../validate.ts";

/** What training and evaluation need of a model. */
export interface LanguageModel {
  /** Mean cross-entropy in nats. @param tokens [B, T] int32   @param targets [B, T] int32 */
  loss(tokens: Tensor, targets: Tensor): Tensor;
  /** Batches are put on their device; without it on the current one. */
  parameters?(): Tensor[];
}

/** @internal Where a model wants its tokens. */
export function deviceOf(model: LanguageModel): string | undefined {
  return model.parameters?.()[0]?.device;
}

export interface EvaluateOptions {
  /** Windows per batch; default 8. */
  batch?: number;
  /** Tokens per window, at most the model's context. */
  context: number;
  /** At most so many batches; default all there are. */
  batches?: number;
  /** Stops early: the mean of what is done so far. */
  signal?: AbortSignal;
}

const optionKeys: Keys<EvaluateOptions> = {
  batch: "checked",
  context: "checked",
  batches: "checked",
  signal: "signal",
};

/**
 * Mean loss over consecutive windows of `tokens`, in nats per token.
 *
 * @throws {DataError} fewer than context + 1 tokens   @throws {RangeError} batch, context or batches
 * @throws {TypeError} an unknown option
 */
export async function evaluate(model: LanguageModel, tokens: Tokens, options: EvaluateOptions): Promise<number> {
  checkOptions("evaluate", options, optionKeys);
  const { batch = 8, context, batches } = options;
  const device = deviceOf(model);
  let sum = 0;
  let rows = 0;
  let pending: { loss: Tensor; rows: number } | undefined;
  const settle = async () => {
    if (!pending) return;
    const { loss, rows: count } = pending;
    pending = undefined;
    try {
      sum += (await loss.item()) * count;
      rows += count;
    } finally {
      loss.dispose();
    }
  };
  try {
    // One batch is always in flight while the last one's loss is awaited, so the device never waits for JavaScript.
    for (const window of sequentialBatches(tokens, { batch, context, batches })) {
      if (options.signal?.aborted && (rows > 0 || pending)) break;
      const loss = tidy(() =>
        noGrad(() => {
          const b = batchTensors(window, { device });
          return keep(model.loss(b.tokens, b.targets));
        }),
      );
      await settle();
      pending = { loss, rows: window.rows };
    }
    await settle();
  } finally {
    pending?.loss.dispose();
  }
  return sum / rows;
}
