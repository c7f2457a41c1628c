/** Inputs of the benchmarks: random normal tensors on the chosen device, all freed together. */
import { type DType, dtypeBytes } from "../../dtype.ts";
import { Tensor } from "../../tensor.ts";

export type FloatType = "float32" | "bfloat16";

/** Creates tensors and disposes all of them at once. */
export class Inputs {
  readonly #tensors: Tensor[] = [];
  #seed = 1;

  #own(tensor: Tensor): Tensor {
    this.#tensors.push(tensor);
    return tensor;
  }

  normal(shape: readonly number[], dtype: FloatType = "float32", std = 1): Tensor {
    return this.#own(Tensor.randn(shape, { dtype, std, seed: this.#seed++ }));
  }

  /** Written once, so that no page fault falls into a measurement. */
  zeros(shape: readonly number[], dtype: DType = "float32"): Tensor {
    return this.#own(Tensor.zeros(shape, { dtype }));
  }

  /** [size] int32 values from 0 to below `bound`, spread evenly and out of order. */
  indices(size: number, bound: number): Tensor {
    return this.#own(Tensor.from(Int32Array.from({ length: size }, (_, i) => (i * 2654435761) % bound)));
  }

  dispose(): void {
    for (const tensor of this.#tensors) tensor.dispose();
  }
}

export interface ConnectionSize {
  tokens: number;
  n: number;
  channels: number;
  dtype: FloatType;
}

/** The sizes at which the hyper-connection kernels are measured: past the caches, and of one training step. */
const sizes = [
  { tokens: 8192, channels: 1024 },
  { tokens: 1024, channels: 512 },
];

export const connectionSizes = (tiny: boolean): ConnectionSize[] =>
  [4, 2, 8].flatMap((n) =>
    (tiny ? [{ tokens: 16, channels: 64 }] : sizes).flatMap((size) =>
      (["float32", "bfloat16"] as const).map((dtype) => ({ ...size, n, dtype })),
    ),
  );

export const shapeOf = ({ tokens, n, channels }: ConnectionSize) => `T=${tokens} n=${n} C=${channels}`;

/** Bytes of `perToken` elements of the stream dtype for every token: the table of the specification counts in these. */
export const streamBytes = ({ tokens, dtype }: ConnectionSize, perToken: number) =>
  tokens * perToken * dtypeBytes[dtype];

/** Streams from N(0, 1); phi, alpha and bias such that the logits have a standard deviation of about 1. */
export function connectionInputs(inputs: Inputs, { tokens, n, channels, dtype }: ConnectionSize) {
  const [coefficients, width] = [n * n + 2 * n, n * channels];
  return {
    x: inputs.normal([tokens, n, channels], dtype),
    phi: inputs.normal([coefficients, width], "float32", 1 / Math.sqrt(width)),
    alpha: inputs.normal([3], "float32", 0.7),
    bias: inputs.normal([coefficients], "float32", 0.7),
  };
}

/** iters, Sinkhorn's eps and convention as the kernels take them: 20, 0, "paper". */
export const sinkhornOptions = [20, 0, 0] as const;
/** The same with the norm's eps in front. */
export const connectionOptions = [1e-6, ...sinkhornOptions, 0] as const;
