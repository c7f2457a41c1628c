/** One AdamW update: reads weight, gradient and both moments, writes all but the gradient; seven floats an element. */
import { native } from "../../native.ts";
import type { Case } from "../support/cases.ts";
import * as flops from "../support/flops.ts";

export const cases = (tiny: boolean): Case[] =>
  (tiny ? [2 ** 10] : [2 ** 20, 2 ** 24]).map((size) => ({
    name: "adamw",
    shape: `[${size}]`,
    dtype: "float32",
    bytes: 7 * size * 4,
    flops: flops.adamw(size),
    prepare: (inputs) => {
      const [param, grad] = [inputs.normal([size]), inputs.normal([size])];
      const [m, v] = [inputs.zeros([size]), inputs.zeros([size])];
      const factors = inputs.zeros([3]);
      return () => native.adamw(param.handle, grad.handle, m.handle, v.handle, factors.handle, 0, 0.9, 0.999, 1e-8);
    },
  }));
