/** Learning rates as pure functions of the step, counted from 1, so that a resumed run needs no state. */
import { ArgumentRangeError, ArgumentTypeError } from "../errors.ts";
import { checkInteger, checkNumber, checkOptions, type Keys, show } from "../validate.ts";

/** @param step  1, 2, …   @returns the learning rate of that step */
export type Schedule = (step: number) => number;

export interface ScheduleOptions {
  /** Highest learning rate, ≥ 0. */
  lr: number;
  /** Steps of linear growth from lr/warmup to lr; default 0. */
  warmup?: number;
}

const scheduleKeys: Keys<ScheduleOptions> = { lr: "checked", warmup: "checked" };

interface CosineOptions extends ScheduleOptions {
  /** At least 1. */
  steps: number;
  /** 0 … lr, default 0. */
  minLr?: number;
}

const cosineKeys: Keys<CosineOptions> = { ...scheduleKeys, steps: "checked", minLr: "checked" };

interface StepDecayOptions extends ScheduleOptions {
  /** Increasing steps; from the step after one on the rate is lower. */
  milestones: readonly number[];
  /** In (0, 1], default 0.1. */
  factor?: number;
}

const stepDecayKeys: Keys<StepDecayOptions> = { ...scheduleKeys, milestones: "checked", factor: "checked" };

function common(fn: string, options: ScheduleOptions): { lr: number; warmup: number } {
  return {
    lr: checkNumber(fn, "options.lr", options.lr, 0),
    warmup: checkInteger(fn, "options.warmup", options.warmup ?? 0, 0),
  };
}

/** lr after the warm-up, for ever. @throws {RangeError}   @throws {TypeError} an unknown option */
export function constant(options: ScheduleOptions): Schedule {
  checkOptions("constant", options, scheduleKeys);
  const { lr, warmup } = common("constant", options);
  return (step) => (step < warmup ? (lr * step) / warmup : lr);
}

/**
 * Linear warm-up, then half a cosine from lr to minLr at the last step, then minLr.
 *
 * lr(t) = minLr + ½ (lr − minLr) (1 + cos(π (t − warmup)/(steps − warmup)))
 *
 * @throws {RangeError}   @throws {TypeError} an unknown option
 */
export function cosine(options: CosineOptions): Schedule {
  const fn = "cosine";
  checkOptions(fn, options, cosineKeys);
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
 * @throws {RangeError}   @throws {TypeError} an unknown option, milestones no array
 */
export function stepDecay(options: StepDecayOptions): Schedule {
  const fn = "stepDecay";
  checkOptions(fn, options, stepDecayKeys);
  const { lr, warmup } = common(fn, options);
  const factor = checkNumber(fn, "options.factor", options.factor ?? 0.1, Number.MIN_VALUE, 1);
  if (!Array.isArray(options.milestones))
    throw new ArgumentTypeError(`${fn}: options.milestones is ${show(options.milestones)}, want an array of steps`);
  const milestones: number[] = [...options.milestones];
  for (const [i, m] of milestones.entries()) {
    checkInteger(fn, `options.milestones[${i}]`, m, 1);
    if (i > 0 && m <= milestones[i - 1]!)
      throw new ArgumentRangeError(`${fn}: options.milestones is [${milestones.join(", ")}], want increasing steps`);
  }
  return (step) =>
    step < warmup ? (lr * step) / warmup : lr * factor ** milestones.filter((milestone) => step > milestone).length;
}
