/** The matrix products of a GPT with dim 512 at 1024 tokens: forward, and forward + backward through the public API. */
import { ops } from "../../lib/index.ts";
import type { Case } from "../support/cases.ts";
import { linearBytes, pass } from "../support/passes.ts";

const tokens = 1024;

export const cases: Case[] = [
  [512, 512],
  [512, 1536],
  [512, 2048],
  [2048, 512],
].flatMap(([from, to]) =>
  (["float32", "bfloat16"] as const).flatMap((dtype): Case[] => {
    const shared = { shape: `[${tokens}, ${from}] x [${to}, ${from}]`, dtype };
    const flops = 2 * tokens * from! * to!;
    const bytes = linearBytes(tokens, from!, to!, dtype);
    return [
      {
        ...shared,
        name: "linear forward",
        bytes,
        flops,
        prepare: (inputs) => {
          const [x, weight] = [inputs.normal([tokens, from!], dtype), inputs.normal([to!, from!], dtype, 0.02)];
          return () => ops.linear(x, weight).dispose();
        },
      },
      {
        ...shared,
        name: "linear forward + backward",
        bytes: 3 * bytes,
        flops: 3 * flops,
        prepare: (inputs) => {
          const [x, weight] = [inputs.normal([tokens, from!], dtype), inputs.normal([to!, from!], dtype, 0.02)];
          const gradY = inputs.normal([tokens, to!], dtype);
          return pass(() => ops.linear(x, weight), [x, weight], gradY);
        },
      },
    ];
  }),
);
