/** The matrix products of a GPT with dim 512 at 1024 tokens: forward, and forward + backward through the public API. */
import { ops } from "../../index.ts";
import type { Case } from "../support/cases.ts";
import * as flops from "../support/flops.ts";
import { linearBytes, pass } from "../support/passes.ts";

const sizes = [
  [1024, 512, 512],
  [1024, 512, 1536],
  [1024, 512, 2048],
  [1024, 2048, 512],
] as const;

export const cases = (tiny: boolean): Case[] =>
  (tiny ? ([[16, 32, 32]] as const) : sizes).flatMap(([tokens, from, to]) =>
    (["float32", "bfloat16"] as const).flatMap((dtype): Case[] => {
      const shared = { shape: `[${tokens}, ${from}] x [${to}, ${from}]`, dtype };
      const product = flops.linear(tokens, from, to);
      const bytes = linearBytes(tokens, from, to, dtype);
      return [
        {
          ...shared,
          name: "linear forward",
          bytes,
          flops: product,
          prepare: (inputs) => {
            const [x, weight] = [inputs.normal([tokens, from], dtype), inputs.normal([to, from], dtype, 0.02)];
            return () => ops.linear(x, weight).dispose();
          },
        },
        {
          ...shared,
          name: "linear forward + backward",
          bytes: 3 * bytes,
          flops: 3 * product,
          prepare: (inputs) => {
            const [x, weight] = [inputs.normal([tokens, from], dtype), inputs.normal([to, from], dtype, 0.02)];
            const gradY = inputs.normal([tokens, to], dtype);
            return pass(() => ops.linear(x, weight), [x, weight], gradY);
          },
        },
      ];
    }),
  );
