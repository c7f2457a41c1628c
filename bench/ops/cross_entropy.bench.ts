/** Cross entropy over a small and a GPT-2 sized vocabulary: forward reads the logits, backward reads and writes them. */
import { dtypeBytes } from "../../lib/dtype.ts";
import { native } from "../../lib/native.ts";
import type { Case } from "../support/cases.ts";

export const cases: Case[] = [
  [1024, 256],
  [1024, 50304],
].flatMap(([tokens, classes]) =>
  (["float32", "bfloat16"] as const).flatMap((dtype): Case[] => {
    const tensor = tokens! * classes! * dtypeBytes[dtype];
    const shared = { shape: `[${tokens}, ${classes}]`, dtype };
    return [
      {
        ...shared,
        name: "crossEntropy forward",
        bytes: tensor,
        prepare: (inputs) => {
          const [logits, targets] = [inputs.normal([tokens!, classes!], dtype), inputs.indices(tokens!, classes!)];
          const [logSumExp, loss] = [inputs.zeros([tokens!]), inputs.zeros([])];
          return () =>
            native.crossEntropyForward(logits.handle, targets.handle, logSumExp.handle, loss.handle, tokens!, classes!);
        },
      },
      {
        ...shared,
        name: "crossEntropy backward",
        bytes: 2 * tensor,
        prepare: (inputs) => {
          const [logits, targets] = [inputs.normal([tokens!, classes!], dtype), inputs.indices(tokens!, classes!)];
          const [logSumExp, gradLoss] = [inputs.normal([tokens!]), inputs.normal([])];
          const out = inputs.zeros([tokens!, classes!], dtype);
          return () =>
            native.crossEntropyBackward(
              logits.handle,
              targets.handle,
              logSumExp.handle,
              gradLoss.handle,
              out.handle,
              tokens!,
              classes!,
            );
        },
      },
    ];
  }),
);
