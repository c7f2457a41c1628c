/** Inputs of a connection for tests: streams, parameters at a chosen logit scale, and bounds that follow from their sizes. */
import type { DType } from "../../lib/index.ts";
import { Tensor } from "../../lib/index.ts";
import { normal } from "./random.ts";
import { bfloat16Rounding, float32Steps, type Tolerance } from "./tolerance.ts";

export interface ConnectionCase {
  n: number;
  channels: number;
  tokens: number;
  /** Standard deviation of the logits z. */
  logitScale: number;
  dtype: DType;
  seed?: number;
}

/** m = r·vφᵀ is N(0, 1) for unit streams when φ is N(0, 1/K); α and b then set the scale of the logits. */
export function connectionInputs({ n, channels, tokens, logitScale, dtype, seed = 1 }: ConnectionCase) {
  const [K, N] = [n * channels, n * n + 2 * n];
  return {
    x: { name: "x", shape: [tokens, n, channels], values: normal(tokens * K, 1, seed), dtype },
    phi: { name: "phi", shape: [N, K], values: normal(N * K, 1 / Math.sqrt(K), seed + 1) },
    alpha: {
      name: "alpha",
      shape: [3],
      values: Float32Array.from([1, 0.9, 1.1], (v) => (v * logitScale) / Math.SQRT2),
    },
    bias: { name: "bias", shape: [N], values: normal(N, logitScale / Math.SQRT2, seed + 2) },
  };
}

/** Roundings that one coefficient goes through: projection in chunks of 128, gate, Sinkhorn (see sinkhorn.test.ts). */
export function coefficientSteps({ n, channels, logitScale }: ConnectionCase): number {
  const projection = 128 + (n * channels) / 128;
  // A rounding of z moves exp(z) by that much; logits reach about four standard deviations.
  return projection * Math.max(1, logitScale) + 2 * 20 * (n + 2) * 2 + 16 * logitScale;
}

/** Of values summed from coefficients times streams. */
export function streamTolerance(c: ConnectionCase): Tolerance {
  return {
    scaled: float32Steps(coefficientSteps(c)),
    relative: c.dtype === "bfloat16" ? bfloat16Rounding : 0,
  };
}

/** Reads tensors after `fn` and frees everything. */
export function tensorsOf(inputs: ReturnType<typeof connectionInputs>, device: string) {
  const make = (i: { values: Float32Array; shape: number[]; dtype?: DType }) =>
    Tensor.from(i.values, i.shape, { dtype: i.dtype ?? "float32", device });
  return { x: make(inputs.x), phi: make(inputs.phi), alpha: make(inputs.alpha), bias: make(inputs.bias) };
}
