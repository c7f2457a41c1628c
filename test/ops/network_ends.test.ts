/** expand and contract: values, gradients, the learned contraction, bad input. */
import { describe, expect, test } from "vitest";
import { ops, Tensor, tidy } from "../../lib/index.ts";
import { coefficientSteps, connectionInputs } from "../support/connection.ts";
import { testDevices } from "../support/devices.ts";
import { expectError } from "../support/errors.ts";
import { gradcheck } from "../support/gradcheck.ts";
import * as oracle from "../support/oracle.ts";
import { normal } from "../support/random.ts";
import { bfloat16Rounding, float32Steps } from "../support/tolerance.ts";

describe.each(testDevices)("expand and contract on %s", (device) => {
  for (const n of [1, 2, 3, 4, 8])
    for (const dtype of ["float32", "bfloat16"] as const) {
      const channels = n === 4 ? 16 : 13;
      const store = { scaled: float32Steps(n + 1), relative: dtype === "bfloat16" ? bfloat16Rounding : 0 };
      test(`expand to ${n}, ${dtype}`, () =>
        gradcheck({
          inputs: [{ name: "h", shape: [3, 5, channels], values: normal(15 * channels, 1, 1), dtype }],
          op: (h) => ops.expand(h!, n),
          oracle: (h) => oracle.expand(h!, n, channels),
          value: {},
          gradient: store,
          device,
        }));
      for (const how of ["sum", "mean"] as const)
        test(`contract ${n} by ${how}, ${dtype}`, () =>
          gradcheck({
            inputs: [{ name: "x", shape: [15, n, channels], values: normal(15 * n * channels, 1, 2), dtype }],
            op: (x) => ops.contract(x!, how),
            oracle: (x) => oracle.contract(x!, n, channels, how),
            value: store,
            gradient: store,
            device,
          }));
    }

  for (const n of [1, 2, 4, 8])
    for (const dtype of ["float32", "bfloat16"] as const)
      for (const convention of ["paper", "deepseek-v4"] as const)
        test(`learned contraction of ${n}, ${dtype}, ${convention}`, () => {
          const c = { n, channels: 27, tokens: 19, logitScale: 2, dtype };
          const { x } = connectionInputs(c);
          const K = n * 27;
          const steps = coefficientSteps(c);
          const store = dtype === "bfloat16" ? bfloat16Rounding : 0;
          gradcheck({
            inputs: [
              x,
              { name: "phi", shape: [n, K], values: normal(n * K, 1 / Math.sqrt(K), 5) },
              { name: "alpha", shape: [1], values: [1.5] },
              { name: "bias", shape: [n], values: normal(n, 1, 6) },
            ],
            op: (...t) => ops.contract(t[0]!, { phi: t[1]!, alpha: t[2]!, bias: t[3]! }, { convention }),
            oracle: (...a) =>
              oracle.contract(a[0]!, n, 27, {
                phi: a[1]!,
                alpha: a[2]!,
                bias: a[3]!,
                eps: convention === "paper" ? 0 : 1e-6,
              }),
            value: { scaled: float32Steps(steps), relative: store },
            gradient: { scaled: float32Steps(2 * steps), absolute: float32Steps(2 * steps), relative: store },
            device,
            samples: 16,
          });
        });

  test("T = 0; says what is wrong", () =>
    tidy(() => {
      const zeros = (...shape: number[]) => Tensor.zeros(shape, { device });
      expect(ops.contract(ops.expand(zeros(0, 4), 8), "sum").shape).toEqual([0, 4]);
      expectError(
        () => ops.expand(zeros(4), 0),
        "RangeError",
        "ERR_RANGE",
        /expand: n is 0, want an integer from 1 to 64/,
      );
      expectError(() => ops.expand(zeros(), 2), "ShapeError", "ERR_SHAPE", /h has shape \[\], want at least 1 axes/);
      expectError(() => ops.contract(zeros(2, 4), "max" as "sum"), "TypeError", "ERR_TYPE", /contract: how is "max"/);
      expectError(() => ops.contract(zeros(4), "sum"), "ShapeError", "ERR_SHAPE", /x has shape \[4\]/);
      const head = { phi: zeros(4, 8), alpha: zeros(3), bias: zeros(4) };
      expectError(
        () => ops.contract(zeros(2, 4, 2), head),
        "ShapeError",
        "ERR_SHAPE",
        /alpha has shape \[3\], want \[1\]/,
      );
    }));
});
