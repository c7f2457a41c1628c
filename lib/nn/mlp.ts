/** The position-wise branch of a transformer block: proj(gelu(fc x)), or proj(silu(gate x) ⊙ up x). */
import * as ops from "../ops/index.ts";
import type { Tensor } from "../tensor.ts";
import { checkInteger, checkNumber, checkOneOf, checkOptions, type Keys } from "../validate.ts";
import { Linear } from "./linear.ts";
import { dropout, Module } from "./module.ts";

export interface MLPOptions {
  dim: number;
  /** Default 4·dim for gelu; 8/3·dim rounded up to a multiple of 8 for swiglu, which has three matrices instead of two. */
  hidden?: number;
  /** Default "gelu". */
  activation?: "gelu" | "swiglu";
  /** Default false. */
  bias?: boolean;
  /** Dropout of the output, in [0, 1); default 0. */
  dropout?: number;
  /** Standard deviation of the output projection's initial weights; default 0.02. */
  projStd?: number;
  device?: string;
}

const optionKeys: Keys<MLPOptions> = {
  dim: "checked",
  hidden: "checked",
  activation: "checked",
  bias: "boolean",
  dropout: "checked",
  projStd: "checked",
  device: "string",
};

export class MLP extends Module {
  /** dim → hidden (the up projection of swiglu). */
  readonly fc: Linear;
  /** dim → hidden, swiglu only. */
  readonly gate?: Linear;
  readonly proj: Linear;
  readonly dropout: number;

  /** @throws {RangeError} a size below 1, dropout outside [0, 1)   @throws {TypeError} unknown activation or option, bias no boolean */
  constructor(options: MLPOptions) {
    super();
    const fn = "MLP";
    checkOptions(fn, options, optionKeys);
    const dim = checkInteger(fn, "options.dim", options.dim, 1);
    const kind = checkOneOf(fn, "options.activation", options.activation ?? "gelu", ["gelu", "swiglu"]);
    const usual = kind === "gelu" ? 4 * dim : 8 * Math.ceil(dim / 3);
    const hidden = checkInteger(fn, "options.hidden", options.hidden ?? usual, 1);
    this.dropout = checkNumber(fn, "options.dropout", options.dropout ?? 0, 0, 1 - 1e-6);
    const std = checkNumber(fn, "options.projStd", options.projStd ?? 0.02, 0);
    const { bias, device } = options;
    this.fc = new Linear(dim, hidden, { bias, device });
    if (kind === "swiglu") this.gate = new Linear(dim, hidden, { bias, device });
    this.proj = new Linear(hidden, dim, { bias, device, std });
  }

  /** @param x [..., dim]   @returns [..., dim] */
  forward(x: Tensor): Tensor {
    const h = this.fc.forward(x);
    const active = this.gate ? ops.swiglu(this.gate.forward(x), h) : ops.gelu(h);
    return dropout(this.proj.forward(active), this.dropout);
  }
}
