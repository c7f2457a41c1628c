/** RMSNorm at the sizes of one training step and past the caches. */
import { dtypeBytes } from "../../dtype.ts";
import { native } from "../../native.ts";
import type { Case } from "../support/cases.ts";
import * as flops from "../support/flops.ts";

const sizes = [
  [1024, 512],
  [32768, 1024],
];

export const cases = (tiny: boolean): Case[] =>
  (tiny ? [[16, 64]] : sizes).flatMap(([rows, channels]) =>
    (["float32", "bfloat16"] as const).flatMap((dtype): Case[] => {
      const shape = [rows!, channels!];
      const tensor = rows! * channels! * dtypeBytes[dtype];
      const shared = { shape: `[${shape.join(", ")}]`, dtype };
      return [
        {
          ...shared,
          name: "rmsNorm forward",
          bytes: 2 * tensor,
          flops: flops.rmsNormForward(rows!, channels!),
          prepare: (inputs) => {
            const [x, weight] = [inputs.normal(shape, dtype), inputs.normal([channels!])];
            const [y, inverse] = [inputs.zeros(shape, dtype), inputs.zeros([rows!])];
            return () =>
              native.rmsNormForward(x.handle, weight.handle, y.handle, inverse.handle, rows!, channels!, 1e-6);
          },
        },
        {
          ...shared,
          name: "rmsNorm backward",
          bytes: 3 * tensor,
          flops: flops.rmsNormBackward(rows!, channels!),
          prepare: (inputs) => {
            const [x, weight] = [inputs.normal(shape, dtype), inputs.normal([channels!])];
            const [gradY, inverse] = [inputs.normal(shape, dtype), inputs.normal([rows!])];
            const [gradX, gradWeight] = [inputs.zeros(shape, dtype), inputs.zeros([channels!])];
            return () =>
              native.rmsNormBackward(
                x.handle,
                weight.handle,
                gradY.handle,
                inverse.handle,
                gradX.handle,
                gradWeight.handle,
                rows!,
                channels!,
              );
          },
        },
      ];
    }),
  );
