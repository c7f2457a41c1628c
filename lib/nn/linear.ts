/** The affine map every other layer is made of. */
import * as ops from "../ops/index.ts";
import { Tensor } from "../tensor.ts";
import { checkInteger, checkNumber, checkOptions, type Keys } from "../validate.ts";
import { cast, Module, normal, Parameter } from "./module.ts";

export interface LinearOptions {
  /** Adds a bias, initially zero; default false. */
  bias?: boolean;
  /** Standard deviation of the initial weights; default 0.02 (GPT-2). */
  std?: number;
  device?: string;
}

const optionKeys: Keys<LinearOptions> = { bias: "boolean", std: "checked", device: "string" };

/** y = x Wᵀ + b. */
export class Linear extends Module {
  /** [out, in] float32. */
  readonly weight: Parameter;
  /** [out] float32, without weight decay. */
  readonly bias?: Parameter;

  /** @param inputs  at least 1   @param outputs  at least 1   @throws {RangeError}   @throws {TypeError} an unknown option, bias no boolean */
  constructor(inputs: number, outputs: number, options: LinearOptions = {}) {
    super();
    const fn = "Linear";
    checkInteger(fn, "inputs", inputs, 1);
    checkInteger(fn, "outputs", outputs, 1);
    checkOptions(fn, options, optionKeys);
    const std = checkNumber(fn, "options.std", options.std ?? 0.02, 0);
    this.weight = new Parameter(normal([outputs, inputs], std, options.device));
    if (options.bias) this.bias = new Parameter(Tensor.zeros([outputs], { device: options.device }), { decay: false });
  }

  /** @param x [..., in]   @returns [..., out] in x's dtype   @throws {ShapeError} the last axis is not `in` */
  forward(x: Tensor): Tensor {
    return ops.linear(x, cast(this.weight, x.dtype), this.bias && cast(this.bias, x.dtype));
  }
}
