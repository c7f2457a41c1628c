/** Normalisations over the last axis. Their weights carry no weight decay. */
import * as ops from "../ops/index.ts";
import { Tensor } from "../tensor.ts";
import { checkInteger, checkNumber, checkOptions, type Keys } from "../validate.ts";
import { Module, Parameter } from "./module.ts";

export interface NormOptions {
  /** Added to the mean square or variance; default 1e-6 (RMSNorm), 1e-5 (LayerNorm). */
  eps?: number;
  device?: string;
}

const rmsNormKeys: Keys<NormOptions> = { eps: "checked", device: "string" };

/** y = x / sqrt(mean(x²) + eps) ⊙ w. */
export class RMSNorm extends Module {
  /** [dim] float32, initially 1. */
  readonly weight: Parameter;
  readonly eps: number;

  /** @param dim  at least 1   @throws {RangeError}   @throws {TypeError} an unknown option */
  constructor(dim: number, options: NormOptions = {}) {
    super();
    checkInteger("RMSNorm", "dim", dim, 1);
    checkOptions("RMSNorm", options, rmsNormKeys);
    this.eps = checkNumber("RMSNorm", "options.eps", options.eps ?? 1e-6, 0);
    this.weight = new Parameter(Tensor.ones([dim], { device: options.device }), { decay: false });
  }

  /** @param x [..., dim]   @returns the same shape and dtype */
  forward(x: Tensor): Tensor {
    return ops.rmsNorm(x, this.weight, { eps: this.eps });
  }
}

interface LayerNormOptions extends NormOptions {
  /** Default true. */
  bias?: boolean;
}

const layerNormKeys: Keys<LayerNormOptions> = { ...rmsNormKeys, bias: "boolean" };

/** y = (x − mean) / sqrt(variance + eps) ⊙ w + b. */
export class LayerNorm extends Module {
  /** [dim] float32, initially 1. */
  readonly weight: Parameter;
  /** [dim] float32, initially 0; absent with `bias: false`. */
  readonly bias?: Parameter;
  readonly eps: number;

  /** @param dim  at least 1   @throws {RangeError}   @throws {TypeError} an unknown option, bias no boolean */
  constructor(dim: number, options: LayerNormOptions = {}) {
    super();
    checkInteger("LayerNorm", "dim", dim, 1);
    checkOptions("LayerNorm", options, layerNormKeys);
    this.eps = checkNumber("LayerNorm", "options.eps", options.eps ?? 1e-5, 0);
    this.weight = new Parameter(Tensor.ones([dim], { device: options.device }), { decay: false });
    if (options.bias ?? true)
      this.bias = new Parameter(Tensor.zeros([dim], { device: options.device }), { decay: false });
  }

  /** @param x [..., dim]   @returns the same shape and dtype */
  forward(x: Tensor): Tensor {
    return ops.layerNorm(x, this.weight, this.bias, { eps: this.eps });
  }
}
