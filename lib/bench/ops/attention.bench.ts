/** Causal attention of a GPT with dim 512, 8 heads, context 256, batch 4. Masked products are not counted as work. */
import { dtypeBytes } from "../../dtype.ts";
import { ops } from "../../index.ts";
import type { Case } from "../support/cases.ts";
import * as flops from "../support/flops.ts";
import { pass } from "../support/passes.ts";

export const cases = (tiny: boolean): Case[] => {
  const shape = tiny ? [1, 2, 16, 8] : [4, 8, 256, 64];
  const [batch, heads, length, size] = shape as [number, number, number, number];
  return (["float32", "bfloat16"] as const).flatMap((dtype): Case[] => {
    const tensor = batch * heads * length * size * dtypeBytes[dtype];
    const [forward, backward] = [
      flops.attentionForward(batch * heads, length, size),
      flops.attentionBackward(batch * heads, length, size),
    ];
    const shared = { shape: `[${shape.join(", ")}] causal`, dtype };
    return [
      {
        ...shared,
        name: "attention forward",
        bytes: 4 * tensor,
        flops: forward,
        prepare: (inputs) => {
          const [q, k, v] = [1, 2, 3].map(() => inputs.normal(shape, dtype));
          return () => ops.attention(q!, k!, v!, { causal: true }).dispose();
        },
      },
      {
        ...shared,
        name: "attention forward + backward",
        // Backward reads q, k, v, out and dout and writes dq, dk, dv; it computes q·k again.
        bytes: 12 * tensor,
        flops: forward + backward,
        prepare: (inputs) => {
          const [q, k, v, gradY] = [1, 2, 3, 4].map(() => inputs.normal(shape, dtype));
          return pass(() => ops.attention(q!, k!, v!, { causal: true }), [q!, k!, v!], gradY!);
        },
      },
    ];
  });
};
