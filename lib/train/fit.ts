/**
 * The training loop, as an async iterable of metrics.
 *
 * A step is queued while the last one's metrics are being handled, so the device does not wait for the consumer; its update is
 * queued only once its loss and gradient norm are known to be finite, so bad gradients never reach the weights, and the weights
 * are those of the step yielded.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { valueAndGrad } from "../autograd.ts";
import { type Batch, batchTensors, randomBatches } from "../data/batches.ts";
import { checkLength, type Dataset } from "../data/dataset.ts";
import type { GainReport } from "../diagnostics/gains.ts";
import { type Recording, record } from "../diagnostics/recorder.ts";
import { ArgumentTypeError, NonFiniteError } from "../errors.ts";
import type { HyperConnection } from "../nn/hyper_connection.ts";
import { AdamW, checkBetas } from "../optim/adamw.ts";
import { clipGradNorm } from "../optim/clip.ts";
import { constant, cosine, type Schedule } from "../optim/schedule.ts";
import { keep, type Tensor, tidy } from "../tensor.ts";
import { checkInteger, checkNumber, checkOptions, type Keys, show } from "../validate.ts";
import { deviceOf, evaluate, type LanguageModel } from "./evaluate.ts";
import { RecordedStep } from "./recorded_step.ts";

export interface FitOptions {
  /** Steps to train, ≥ 1. */
  steps: number;
  /** Windows per step; default 8. */
  batch?: number;
  /** Tokens per window, at most the model's context. */
  context: number;
  /** Highest learning rate; default 1e-3. */
  lr?: number;
  /** Learning rate of the last step of "cosine"; default lr / 10. */
  minLr?: number;
  /** Steps of linear growth at the start; default 0. */
  warmup?: number;
  /** "cosine" (default), "constant", or a function from the step (1, 2, …) to its learning rate. */
  schedule?: "cosine" | "constant" | Schedule;
  /** Bound of the gradients' global norm; default 1; Infinity for none. */
  clip?: number;
  /** Default [0.9, 0.95]. */
  betas?: readonly [number, number];
  /** Default 0.1; parameters with `decay: false` have none. */
  weightDecay?: number;
  /** Of the choice of windows, 0 … 2^32 − 1; default 0. Initial weights and dropout follow `setSeed`. */
  seed?: number;
  /** Yield metrics every so many steps, and at the first and last; default 10. */
  log?: number;
  /** Held-out loss every so many steps, and at the last; default never. */
  evalEvery?: number;
  /** Batches per evaluation; default all of the held-out part. */
  evalBatches?: number;
  /** Ends training after the step that is running, with its metrics; nothing is thrown. */
  signal?: AbortSignal;
  /** Adds gains of the connections to each metrics; default false. */
  diagnostics?: boolean;
  /**
   * Records the second step and launches the recording from then on (a CUDA graph on a GPU), which saves the time that queueing
   * its kernels takes, and gives the same bits; default false. What the model takes from JavaScript is then fixed (see
   * {@link Graph}): its `loss` must not read a tensor nor depend on the step. Steps with `diagnostics` run unrecorded.
   */
  graph?: boolean;
}

const optionKeys: Keys<FitOptions> = {
  steps: "checked",
  batch: "checked",
  context: "checked",
  lr: "checked",
  minLr: "checked",
  warmup: "checked",
  schedule: "checked",
  clip: "checked",
  betas: "checked",
  weightDecay: "checked",
  seed: "checked",
  log: "checked",
  evalEvery: "checked",
  evalBatches: "checked",
  signal: "signal",
  diagnostics: "boolean",
  graph: "boolean",
};

export interface Metrics {
  /** 1 … steps. */
  step: number;
  /** Training loss of this step's batch before its update, in nats. */
  loss: number;
  /** Global gradient norm before clipping. */
  gradNorm: number;
  lr: number;
  /** Since the last metrics, without evaluation. */
  tokensPerSecond: number;
  /** Since the start. */
  seconds: number;
  /** After this step's update. */
  heldOutLoss?: number;
  diagnostics?: GainReport;
}

/** A model that `fit` can train. */
export interface Trainable extends LanguageModel {
  parameters(): Tensor[];
  /** Needed for `diagnostics: true` only. */
  connections?(): HyperConnection[];
}

/** A step whose gradients are queued, and its update is not. */
interface Launched {
  loss: Tensor;
  norm: Tensor;
  update(lr: number): void;
  release(): void;
  recording?: Recording<unknown> | undefined;
}

/**
 * Trains a model with AdamW. Breaking out of the loop, or an error, frees everything but the model.
 *
 * @throws {RangeError} an option out of range   @throws {TypeError} an unknown option, or one of another type
 * @throws {DataError} a data set shorter than the context
 * @throws {NonFiniteError} (while iterating) a loss or gradient is not finite; the weights are those of the step before
 */
export function fit(model: Trainable, dataset: Dataset, options: FitOptions): AsyncGenerator<Metrics, void, undefined> {
  const fn = "fit";
  checkOptions(fn, options, optionKeys);
  const steps = checkInteger(fn, "options.steps", options.steps, 1);
  const batch = checkInteger(fn, "options.batch", options.batch ?? 8, 1);
  const context = checkInteger(fn, "options.context", options.context, 1);
  const log = checkInteger(fn, "options.log", options.log ?? 10, 1);
  const lr = checkNumber(fn, "options.lr", options.lr ?? 1e-3, 0);
  const minLr = checkNumber(fn, "options.minLr", options.minLr ?? lr / 10, 0, lr);
  const warmup = checkInteger(fn, "options.warmup", options.warmup ?? 0, 0);
  const clip = options.clip ?? 1;
  if (clip !== Infinity) checkNumber(fn, "options.clip", clip, Number.MIN_VALUE);
  const betas = checkBetas(fn, options.betas ?? [0.9, 0.95]);
  const weightDecay = checkNumber(fn, "options.weightDecay", options.weightDecay ?? 0.1, 0);
  const seed = checkInteger(fn, "options.seed", options.seed ?? 0, 0, 2 ** 32 - 1);
  const evalEvery =
    options.evalEvery === undefined ? undefined : checkInteger(fn, "options.evalEvery", options.evalEvery, 1);
  if (options.evalBatches !== undefined) checkInteger(fn, "options.evalBatches", options.evalBatches, 1);
  const schedule = scheduleOf(options.schedule ?? "cosine", { lr, minLr, warmup, steps });
  checkLength(fn, "dataset.train", dataset.train, context);
  if (evalEvery !== undefined) checkLength(fn, "dataset.heldOut", dataset.heldOut, context);
  const { signal, evalBatches, diagnostics = false, graph = false } = options;
  const { connections } = model;
  if (diagnostics && typeof connections !== "function")
    throw new ArgumentTypeError(`${fn}: options.diagnostics needs a model with connections(), got ${show(model)}`);
  const isLogged = (step: number) => step === 1 || step === steps || step % log === 0;
  const isEvaluated = (step: number) => evalEvery !== undefined && (step === steps || step % evalEvery === 0);

  return (async function* () {
    const params = model.parameters();
    const optimizer = new AdamW(params, { lr, betas, weightDecay });
    const device = deviceOf(model);
    let pending: Launched | undefined;
    let recorded: RecordedStep | undefined;
    try {
      const batches = randomBatches(dataset.train, { batch, context, seed });
      const gradients = (tokens: Tensor, targets: Tensor) => {
        const [loss, grads] = valueAndGrad(() => model.loss(tokens, targets), params);
        return { loss, grads, norm: clipGradNorm(grads, clip) };
      };
      const launch = (step: number): Launched => {
        const batch: Batch = batches.next().value;
        const wants = diagnostics && (isLogged(step) || isEvaluated(step));
        // The first step runs as it is: it loads kernels and opens libraries, which a recording cannot.
        if (graph && step > 1 && !wants) {
          recorded ??= new RecordedStep(batch, { device, optimizer, gradients });
          return recorded.launch(batch);
        }
        let recording: Recording<unknown> | undefined;
        try {
          // The scope frees what an error would leave behind.
          const { loss, grads, norm } = tidy(() => {
            const run = () => {
              const { tokens, targets } = batchTensors(batch, { device });
              return gradients(tokens, targets);
            };
            const watched = wants ? record(model as Required<Trainable>, run) : undefined;
            recording = watched;
            const step = watched?.result ?? run();
            return { loss: keep(step.loss), grads: step.grads.map(keep), norm: keep(step.norm) };
          });
          return {
            loss,
            norm,
            recording,
            update: (lr) => optimizer.step(grads, { lr }),
            release: () => {
              for (const tensor of [loss, norm, ...grads]) tensor.dispose();
              recording?.dispose();
            },
          };
        } catch (error) {
          recording?.dispose();
          throw error;
        }
      };
      const start = performance.now();
      let since = start;
      let counted = 0;
      pending = launch(1);
      for (let step = 1; step <= steps; step++) {
        const current: Launched = pending!;
        const [loss, gradNorm] = await Promise.all([current.loss.item(), current.norm.item()]);
        for (const [what, value] of [
          ["loss", loss],
          ["gradient norm", gradNorm],
        ] as const)
          if (!Number.isFinite(value))
            throw new NonFiniteError(
              `${fn}: the ${what} of step ${step} is ${value}, want a finite number; the weights are those of step ${step - 1}`,
            );
        const rate = schedule(step);
        current.update(rate);
        counted += batch * context;
        const last = step === steps || signal?.aborted === true;
        let metrics: Metrics | undefined;
        if (last || isLogged(step) || isEvaluated(step)) {
          const now = performance.now();
          const tokensPerSecond = (1000 * counted) / Math.max(now - since, 1e-3);
          metrics = { step, loss, gradNorm, lr: rate, tokensPerSecond, seconds: (now - start) / 1000 };
          const report = await current.recording?.report();
          if (report) metrics.diagnostics = report;
          if (isEvaluated(step) && !signal?.aborted)
            metrics.heldOutLoss = await evaluate(model, dataset.heldOut, {
              batch,
              context,
              batches: evalBatches,
              signal,
            });
          since = performance.now();
          counted = 0;
        }
        current.release();
        pending = last ? undefined : launch(step + 1);
        if (metrics) yield metrics;
        if (last || signal?.aborted) return;
        await nextTurn();
      }
    } finally {
      pending?.release();
      recorded?.dispose();
      optimizer.dispose();
    }
  })();
}

function scheduleOf(
  schedule: unknown,
  { lr, minLr, warmup, steps }: { lr: number; minLr: number; warmup: number; steps: number },
): Schedule {
  if (typeof schedule === "function") return schedule as Schedule;
  if (schedule === "cosine") return cosine({ lr, minLr, warmup, steps });
  if (schedule === "constant") return constant({ lr, warmup });
  throw new ArgumentTypeError(
    `fit: options.schedule is ${show(schedule)}, want "cosine", "constant" or a function from the step to its learning rate`,
  );
}
