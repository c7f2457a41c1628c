/** Learning rates as pure functions of the step, counted from 1, so that a resumed run needs no state. */
import { ArgumentRangeError } from "../errors.ts";
import { checkInteger, checkNumber } from "../validate.ts";

/** @param step  1, 2, …   @returns the learning rate of that step */
export type Schedule = (step: number) => number;

export interface ScheduleOptions {
  /** Highest learning rate, ≥ 0. */
  lr: number;
  /** Steps of linear growth from lr/warmup to lr; default 0. */
  warmup?: number;
}

function common(fn: string, options: ScheduleOptions): { lr: number; warmup: number } {
  return {
    lr: checkNumber(fn, "options.lr", options.lr, 0),
    warmup: checkInteger(fn, "options.warmup", options.warmup ?? 0, 0),
  };
}

/** lr after the warm-up, for ever. @throws {RangeError} */
export function constant(options: ScheduleOptions): Schedule {
  const { lr, warmup } = common("constant", options);
  return (step) => (step < warmup ? (lr * step) / warmup : lr);
}

/**
 * Linear warm-up, then half a cosine from lr to minLr at the last step, then minLr.
 *
 * lr(t) = minLr + ½ (lr − minLr) (1 + cos(π (t − warmup)/(steps − warmup)))
 *
 * @param options.steps  at least 1   @param options.minLr  0 … lr, default 0   @throws {RangeError}
 */
export function cosine(options: ScheduleOptions & { steps: number; minLr?: number }): Schedule {
  const fn = "cosine";
  const { lr, warmup } = common(fn, options);
  const steps = checkInteger(fn, "options.steps", options.steps, 1);
  const minLr = checkNumber(fn, "options.minLr", options.minLr ?? 0, 0, lr);
  return (step) => {
    if (step < warmup) return (lr * step) / warmup;
    if (step >= steps) return steps <= warmup ? lr : minLr;
    return minLr + 0.5 * (lr - minLr) * (1 + Math.cos((Math.PI * (step - warmup)) / (steps - warmup)));
  };
}

/**
 * Linear warm-up, then lr times `factor` for every milestone passed.
 *
 * @param options.milestones  increasing steps; from the step after one on the rate is lower
 * @param options.factor      in (0, 1], default 0.1   @throws {RangeError}
 */
export function stepDecay(options: ScheduleOptions & { milestones: readonly number[]; factor?: number }): Schedule {
  const fn = "stepDecay";
  const { lr, warmup } = common(fn, options);
  const factor = checkNumber(fn, "options.factor", options.factor ?? 0.1, Number.MIN_VALUE, 1);
  const milestones = [...options.milestones];
  for (const [i, m] of milestones.entries()) {
    checkInteger(fn, `options.milestones[${i}]`, m, 1);
    if (i > 0 && m <= milestones[i - 1]!)
      throw new ArgumentRangeError(`${fn}: options.milestones is [${milestones.join(", ")}], want increasing steps`);
  }
  return (step) =>
    step < warmup ? (lr * step) / warmup : lr * factor ** milestones.filter((milestone) => step > milestone).length;
}
