/** Sinkhorn alone: 20 iterations are arithmetic, not traffic, so its share of the copy bandwidth says how far it is from free. */
import { native } from "../../native.ts";
import type { Case } from "../support/cases.ts";
import * as flops from "../support/flops.ts";
import { sinkhornOptions } from "../support/inputs.ts";

export function sinkhornCases(matrices: number, n: number): Case[] {
  const shared = { shape: `[${matrices}, ${n}, ${n}] 20 iterations`, dtype: "float32" };
  const matrixBytes = matrices * n * n * 4;
  return [
    {
      ...shared,
      name: "sinkhorn forward",
      bytes: 2 * matrixBytes,
      flops: flops.sinkhornForward(matrices, n),
      peer: { op: "sinkhorn", tokens: matrices, n, channels: 0 },
      prepare: (inputs) => {
        const [logits, res] = [inputs.normal([matrices, n, n]), inputs.zeros([matrices, n, n])];
        return () => native.sinkhornForward(logits.handle, res.handle, matrices, n, ...sinkhornOptions);
      },
    },
    {
      ...shared,
      name: "sinkhorn backward",
      bytes: 3 * matrixBytes,
      flops: flops.sinkhornBackward(matrices, n),
      peer: { op: "sinkhornBackward", tokens: matrices, n, channels: 0 },
      prepare: (inputs) => {
        const [logits, gradRes] = [inputs.normal([matrices, n, n]), inputs.normal([matrices, n, n])];
        const out = inputs.zeros([matrices, n, n]);
        return () =>
          native.sinkhornBackward(logits.handle, gradRes.handle, out.handle, matrices, n, ...sinkhornOptions);
      },
    },
  ];
}

export const cases = (tiny: boolean): Case[] => [4, 2, 8].flatMap((n) => sinkhornCases(tiny ? 64 : 65536, n));
