/** Causal attention of a GPT with dim 512, 8 heads, context 256, batch 4. Masked products are not counted as work. */
import { dtypeBytes } from "../../lib/dtype.ts";
import { ops } from "../../lib/index.ts";
import type { Case } from "../support/cases.ts";
import { pass } from "../support/passes.ts";

const [batch, heads, length, size] = [4, 8, 256, 64] as const;
const shape = [batch, heads, length, size];

export const cases: Case[] = (["float32", "bfloat16"] as const).flatMap((dtype): Case[] => {
  const tensor = batch * heads * length * size * dtypeBytes[dtype];
  const product = 2 * batch * heads * ((length * (length + 1)) / 2) * size;
  const shared = { shape: `[${shape.join(", ")}] causal`, dtype };
  return [
    {
      ...shared,
      name: "attention forward",
      bytes: 4 * tensor,
      flops: 2 * product,
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
      flops: 7 * product,
      prepare: (inputs) => {
        const [q, k, v, gradY] = [1, 2, 3, 4].map(() => inputs.normal(shape, dtype));
        return pass(() => ops.attention(q!, k!, v!, { causal: true }), [q!, k!, v!], gradY!);
      },
    },
  ];
});
