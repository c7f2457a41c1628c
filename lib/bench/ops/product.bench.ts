/** A large square product: the arithmetic that this machine reaches in the same run, which is the roof of a roofline. */
import { dtypeBytes } from "../../dtype.ts";
import { ops } from "../../index.ts";
import type { Case } from "../support/cases.ts";
import { linear } from "../support/flops.ts";
import type { FloatType } from "../support/inputs.ts";

export const peakName = "peak matmul";

export const peakCase = (size: number, dtype: FloatType): Case => ({
  name: peakName,
  shape: `[${size}, ${size}] x [${size}, ${size}]`,
  dtype,
  bytes: 3 * size * size * dtypeBytes[dtype],
  flops: linear(size, size, size),
  prepare: (inputs) => {
    const [a, b] = [inputs.normal([size, size], dtype), inputs.normal([size, size], dtype)];
    return () => ops.matmul(a, b).dispose();
  },
});

/** One product for each dtype that the cases have. */
export const peakCases = (size: number, cases: readonly Case[]): Case[] =>
  (["float32", "bfloat16"] as const).filter((d) => cases.some((c) => c.dtype === d)).map((d) => peakCase(size, d));
