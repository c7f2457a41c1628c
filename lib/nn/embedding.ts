/** A table of vectors, one per token. */
import * as ops from "../ops/index.ts";
import type { Tensor } from "../tensor.ts";
import { checkInteger, checkNumber, checkOptions, type Keys } from "../validate.ts";
import { Module, normal, Parameter } from "./module.ts";

interface EmbeddingOptions {
  /** Standard deviation of the initial values; default 0.02. */
  std?: number;
  device?: string;
}

const optionKeys: Keys<EmbeddingOptions> = { std: "checked", device: "string" };

/** y = W[index]. */
export class Embedding extends Module {
  /** [count, dim] float32. */
  readonly weight: Parameter;

  /** @throws {RangeError} count, dim or std   @throws {TypeError} an unknown option */
  constructor(count: number, dim: number, options: EmbeddingOptions = {}) {
    super();
    const fn = "Embedding";
    checkInteger(fn, "count", count, 1);
    checkInteger(fn, "dim", dim, 1);
    checkOptions(fn, options, optionKeys);
    const std = checkNumber(fn, "options.std", options.std ?? 0.02, 0);
    this.weight = new Parameter(normal([count, dim], std, options.device));
  }

  /** @param indices [...] int32 in 0 … count − 1   @returns [..., dim]; an index out of range surfaces at the next read */
  forward(indices: Tensor): Tensor {
    return ops.embedding(indices, this.weight);
  }
}
