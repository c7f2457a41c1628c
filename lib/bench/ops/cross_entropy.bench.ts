/** Cross entropy over a small and a GPT-2 sized vocabulary: forward reads the logits, backward reads and writes them. */
import { dtypeBytes } from "../../dtype.ts";
import { native } from "../../native.ts";
import type { Case } from "../support/cases.ts";
import * as flops from "../support/flops.ts";

const sizes = [
  [1024, 256],
  [1024, 50304],
];

export const cases = (tiny: boolean): Case[] =>
  (tiny ? [[16, 64]] : sizes).flatMap(([tokens, classes]) =>
    (["float32", "bfloat16"] as const).flatMap((dtype): Case[] => {
      const tensor = tokens! * classes! * dtypeBytes[dtype];
      const shared = { shape: `[${tokens}, ${classes}]`, dtype };
      return [
        {
          ...shared,
          name: "crossEntropy forward",
          bytes: tensor,
          flops: flops.crossEntropyForward(tokens!, classes!),
          prepare: (inputs) => {
            const [logits, targets] = [inputs.normal([tokens!, classes!], dtype), inputs.indices(tokens!, classes!)];
            const [logSumExp, loss] = [inputs.zeros([tokens!]), inputs.zeros([])];
            return () =>
              native.crossEntropyForward(
                logits.handle,
                targets.handle,
                logSumExp.handle,
                loss.handle,
                tokens!,
                classes!,
              );
          },
        },
        {
          ...shared,
          name: "crossEntropy backward",
          bytes: 2 * tensor,
          flops: flops.crossEntropyBackward(tokens!, classes!),
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
