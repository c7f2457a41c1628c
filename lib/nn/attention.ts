/** Multi-head causal self-attention: softmax(q kᵀ / √D) v per head, each position seeing itself and the past. */
import { ArgumentRangeError, ShapeError } from "../errors.ts";
import * as ops from "../ops/index.ts";
import type { Tensor } from "../tensor.ts";
import { checkInteger, checkNumber, checkOptions, checkTensor, type Keys } from "../validate.ts";
import { Linear } from "./linear.ts";
import { dropout, Module } from "./module.ts";

export interface AttentionOptions {
  dim: number;
  /** Must divide `dim`. */
  heads: number;
  /** Default false. */
  bias?: boolean;
  /** Dropout of the output, in [0, 1); default 0. The attention weights are never materialised, so never dropped. */
  dropout?: number;
  /** Standard deviation of the output projection's initial weights; default 0.02. */
  projStd?: number;
  device?: string;
}

const optionKeys: Keys<AttentionOptions> = {
  dim: "checked",
  heads: "checked",
  bias: "boolean",
  dropout: "checked",
  projStd: "checked",
  device: "string",
};

export class CausalSelfAttention extends Module {
  /** dim → 3·dim: queries, keys, values, each split into heads. */
  readonly qkv: Linear;
  readonly proj: Linear;
  readonly heads: number;
  readonly dim: number;
  readonly dropout: number;

  /** @throws {RangeError} heads does not divide dim, or dropout outside [0, 1)   @throws {TypeError} an unknown option, bias no boolean */
  constructor(options: AttentionOptions) {
    super();
    const fn = "CausalSelfAttention";
    checkOptions(fn, options, optionKeys);
    this.dim = checkInteger(fn, "options.dim", options.dim, 1);
    this.heads = checkInteger(fn, "options.heads", options.heads, 1);
    if (this.dim % this.heads !== 0)
      throw new ArgumentRangeError(`${fn}: options.heads is ${this.heads}, want a divisor of dim ${this.dim}`);
    this.dropout = checkNumber(fn, "options.dropout", options.dropout ?? 0, 0, 1 - 1e-6);
    const std = checkNumber(fn, "options.projStd", options.projStd ?? 0.02, 0);
    const { bias, device } = options;
    this.qkv = new Linear(this.dim, 3 * this.dim, { bias, device });
    this.proj = new Linear(this.dim, this.dim, { bias, device, std });
  }

  /** @param x [B, T, dim]   @returns [B, T, dim]   @throws {ShapeError} */
  forward(x: Tensor): Tensor {
    const fn = "CausalSelfAttention.forward";
    checkTensor(fn, "x", x);
    const [batch, length] = x.shape as [number, number];
    if (x.shape.length !== 3 || x.shape[2] !== this.dim)
      throw new ShapeError(`${fn}: x has shape [${x.shape.join(", ")}], want [B, T, ${this.dim}]`);
    const head = this.dim / this.heads;
    const split = ops.reshape(this.qkv.forward(x), [batch, length, 3, this.heads, head]);
    const parts = ops.split(ops.transpose(split, [2, 0, 3, 1, 4]), 3);
    const shape = [batch, this.heads, length, head];
    const [q, k, v] = parts.map((part) => ops.reshape(part, shape)) as [Tensor, Tensor, Tensor];
    const y = ops.transpose(ops.attention(q, k, v, { causal: true }), [0, 2, 1, 3]);
    return dropout(this.proj.forward(ops.reshape(y, [batch, length, this.dim])), this.dropout);
  }
}
