/**
 * AdamW (arXiv:1711.05101): Adam with decay decoupled from the gradient.
 *
 * m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;  w ← w − lr·λ·w − lr · (m/(1−β₁ᵗ)) / (√(v/(1−β₂ᵗ)) + ε)
 */
import { currentDevice } from "../device.ts";
import { ArgumentTypeError, ShapeError } from "../errors.ts";
import { Graph } from "../graph.ts";
import { native } from "../native.ts";
import { Parameter } from "../nn/module.ts";
import { keep, Tensor } from "../tensor.ts";
import { checkNumber, checkOptions, checkSameDevice, checkShape, checkTensor, type Keys, show } from "../validate.ts";

/** Parameters with settings of their own. */
export interface ParameterGroup {
  params: readonly Tensor[];
  /** λ for all of them; default: the optimizer's, and 0 for a `Parameter` with `decay: false`. */
  weightDecay?: number;
  /** Multiplies the step's learning rate, relative to the optimizer's `lr`: a group's lr / the optimizer's lr. */
  lr?: number;
}

export interface AdamWOptions {
  /** Learning rate, ≥ 0; default 1e-3. */
  lr?: number;
  /** Default [0.9, 0.999], each in [0, 1). */
  betas?: readonly [number, number];
  /** Default 1e-8, > 0. */
  eps?: number;
  /** λ, ≥ 0; default 0.01. Parameters with `decay: false` get none. */
  weightDecay?: number;
}

const groupKeys: Keys<ParameterGroup> = { params: "checked", weightDecay: "checked", lr: "checked" };
const optionKeys: Keys<AdamWOptions> = { lr: "checked", betas: "checked", eps: "checked", weightDecay: "checked" };
const stepKeys: Keys<{ lr?: number }> = { lr: "checked" };

interface Slot {
  param: Tensor;
  m: Tensor;
  v: Tensor;
  weightDecay: number;
  lrFactor: number;
}

/** @internal A copy of the betas. */
export function checkBetas(fn: string, betas: unknown): [number, number] {
  if (!Array.isArray(betas) || betas.length !== 2)
    throw new ArgumentTypeError(`${fn}: options.betas is ${show(betas)}, want two numbers`);
  // 1 would divide by zero in the bias correction.
  for (const i of [0, 1]) checkNumber(fn, `options.betas[${i}]`, betas[i], 0, 1 - 1e-9);
  return [betas[0], betas[1]];
}

/** @internal What the kernel takes of step t: lr / (1 − β₁ᵗ), 1 / √(1 − β₂ᵗ), 1 − lr·λ. */
export function stepFactors(
  { lr, betas, weightDecay }: { lr: number; betas: readonly [number, number]; weightDecay: number },
  step: number,
): [number, number, number] {
  return [lr / (1 - betas[0] ** step), 1 / Math.sqrt(1 - betas[1] ** step), 1 - lr * weightDecay];
}

export class AdamW {
  /** The parameters in the order in which `step` wants their gradients. */
  readonly params: readonly Tensor[];
  readonly lr: number;
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly #slots: Slot[] = [];
  readonly #factors: Tensor;
  #steps = 0;

  /**
   * @param params  parameters, or groups of them; float32
   * @throws {TypeError} not a list of tensors, an unknown option   @throws {DTypeError} a parameter is not float32   @throws {RangeError} a setting
   */
  constructor(params: readonly Tensor[] | readonly ParameterGroup[], options: AdamWOptions = {}) {
    const fn = "AdamW";
    checkOptions(fn, options, optionKeys);
    this.lr = checkNumber(fn, "options.lr", options.lr ?? 1e-3, 0);
    this.betas = checkBetas(fn, options.betas ?? [0.9, 0.999]);
    this.eps = checkNumber(fn, "options.eps", options.eps ?? 1e-8, Number.MIN_VALUE);
    const decay = checkNumber(fn, "options.weightDecay", options.weightDecay ?? 0.01, 0);
    if (!Array.isArray(params))
      throw new ArgumentTypeError(`${fn}: params is ${show(params)}, want an array of tensors or groups`);
    const groups = params.every((p) => p instanceof Tensor) ? [{ params }] : (params as readonly ParameterGroup[]);
    const seen = new Set<Tensor>();
    const plan: Omit<Slot, "m" | "v">[] = [];
    for (const [g, group] of groups.entries()) {
      const at = groups.length > 1 || group !== groups[0] ? `groups[${g}].params` : "params";
      const isObject = typeof group === "object" && !(group instanceof Tensor);
      if (isObject) checkOptions(fn, group, groupKeys, `params[${g}]`);
      if (!isObject || !Array.isArray(group.params))
        throw new ArgumentTypeError(
          `${fn}: params[${g}] is ${show(group)}, want a tensor or { params, weightDecay?, lr? }`,
        );
      const own =
        group.weightDecay === undefined ? undefined : checkNumber(fn, `params[${g}].weightDecay`, group.weightDecay, 0);
      const lr = group.lr === undefined ? this.lr : checkNumber(fn, `params[${g}].lr`, group.lr, 0);
      for (const [i, param] of group.params.entries()) {
        checkTensor(fn, `${at}[${i}]`, param, { dtype: ["float32"] });
        if (seen.has(param))
          throw new ArgumentTypeError(`${fn}: ${at}[${i}] is listed twice, want each parameter once`);
        seen.add(param);
        const weightDecay = own ?? (param instanceof Parameter && !param.decay ? 0 : decay);
        plan.push({ param, weightDecay, lrFactor: this.lr > 0 ? lr / this.lr : 1 });
      }
    }
    for (const entry of plan) {
      const { shape, device } = entry.param;
      this.#slots.push({
        ...entry,
        m: keep(Tensor.zeros(shape, { device })),
        v: keep(Tensor.zeros(shape, { device })),
      });
    }
    this.params = this.#slots.map((s) => s.param);
    checkSameDevice(fn, Object.fromEntries(this.params.map((param, i) => [`params[${i}]`, param])));
    // On the device, so that a recorded update finds those of its step.
    this.#factors = keep(Tensor.empty([this.#slots.length, 3], "float32", this.params[0]?.device ?? currentDevice()));
  }

  /** Steps taken. */
  get steps(): number {
    return this.#steps;
  }

  /**
   * Updates every parameter in place. Queued like any op; the gradients stay yours.
   *
   * @param grads  one per parameter, in the order of `params`
   * @param options.lr  learning rate of this step; default the constructor's
   * @throws {ShapeError} number or shape of gradients   @throws {TypeError} an unknown option; nothing is changed then
   */
  step(grads: readonly Tensor[], options: { lr?: number } = {}): void {
    checkOptions("AdamW.step", options, stepKeys);
    const lr = checkNumber("AdamW.step", "options.lr", options.lr ?? this.lr, 0);
    this.#check("AdamW.step", grads);
    this.#advance(lr);
    this.#update(grads);
  }

  /**
   * @internal Records the update by these gradients; `step` then does what the method of that name does with what they are at
   * that time. The gradients stay yours.
   */
  recordStep(grads: readonly Tensor[]): { step(options: { lr: number }): void; dispose(): void } {
    this.#check("AdamW.recordStep", grads);
    const graph = Graph.record(this.#factors.device, () => this.#update(grads));
    return {
      step: ({ lr }) => {
        this.#advance(lr);
        graph.launch();
      },
      dispose: () => graph.dispose(),
    };
  }

  #check(fn: string, grads: readonly Tensor[]): void {
    if (!Array.isArray(grads) || grads.length !== this.#slots.length)
      throw new ShapeError(
        `${fn}: grads is ${Array.isArray(grads) ? `${grads.length} tensors` : show(grads)}, want ${this.#slots.length} tensors, one per parameter`,
      );
    for (const [i, grad] of grads.entries()) {
      const { param } = this.#slots[i]!;
      checkTensor(fn, `grads[${i}]`, grad, { dtype: ["float32"] });
      checkShape(fn, `grads[${i}]`, grad, param.shape);
      checkTensor(fn, `params[${i}]`, param);
      checkSameDevice(fn, { [`params[${i}]`]: param, [`grads[${i}]`]: grad });
    }
  }

  #advance(lr: number): void {
    const step = this.#steps + 1;
    const factors = this.#slots.flatMap(({ weightDecay, lrFactor }) =>
      stepFactors({ lr: lr * lrFactor, betas: this.betas, weightDecay }, step),
    );
    native.tensorWrite(this.#factors.handle, Float32Array.from(factors));
    this.#steps = step;
  }

  #update(grads: readonly Tensor[]): void {
    for (const [i, { param, m, v }] of this.#slots.entries()) {
      const [grad, [b1, b2]] = [grads[i]!, this.betas];
      native.adamw(param.handle, grad.handle, m.handle, v.handle, this.#factors.handle, i, b1, b2, this.eps);
    }
  }

  /** First and second moments, in the order of `params`: live tensors, for checkpoints and inspection. */
  state(): { steps: number; m: Tensor[]; v: Tensor[] } {
    return { steps: this.#steps, m: this.#slots.map((s) => s.m), v: this.#slots.map((s) => s.v) };
  }

  /** Frees the moments; the parameters are not touched. */
  dispose(): void {
    for (const { m, v } of this.#slots) {
      m.dispose();
      v.dispose();
    }
    this.#factors.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
