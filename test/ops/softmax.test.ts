import { describe, expect, test } from "vitest";
import { type DType, ops, Tensor, tidy } from "../../lib/index.ts";
import { testDevices } from "../support/devices.ts";
import { softmaxOracle } from "../support/oracle_matrix.ts";
import { assertSameAtAnyThreads, checkOp, pullback } from "../support/pullback.ts";
import { cotangent, uniform } from "../support/random.ts";
import { float32Steps, storeRounding } from "../support/tolerance.ts";

describe.each(testDevices)("softmax on %s", (device) => {
  test.each([
    [[1, 1], "float32"],
    [[3, 5], "float32"],
    [[2, 3, 33], "float32"],
    [[5, 200], "float32"],
    [[2, 4104], "float32"],
    [[7, 19], "bfloat16"],
    [[3, 64], "bfloat16"],
  ] as [number[], DType][])("%j %s", (shape, dtype) => {
    const columns = shape.at(-1)!;
    const range = 8; // |x - max|
    // exp: its argument's rounding (range steps) and 3 steps of its own; twice, for the numerator and the sum; sum; division.
    const steps = 2 * (range + 3) + columns + 2;
    const stored = dtype === "bfloat16" ? storeRounding(dtype) : 0;
    checkOp({
      inputs: [
        {
          name: "x",
          shape,
          values: uniform(
            shape.reduce((a, b) => a * b, 1),
            -range / 2,
            range / 2,
            1,
          ),
          dtype,
        },
      ],
      op: (x) => ops.softmax(x!),
      oracle: (x) => softmaxOracle(x!, columns),
      value: { relative: float32Steps(steps) + storeRounding(dtype) },
      // dx = y (dy - dot): y is below 1, dy and dot below 2, so their difference below 4. y errs by its steps and, in bfloat16, by
      // its store; it stands in the product and in the dot, which sums `columns` terms.
      gradient: { absolute: (float32Steps(steps + columns + 2) + stored) * 6, relative: storeRounding(dtype) },
      device,
    });
  });

  test("extreme inputs: no overflow, exact ties, NaN stays in its row", () => {
    tidy(() => {
      const x = Tensor.from([3e38, 3e38, -3e38, -3e38, -3e38, -3e38, 1, Number.NaN, 2, 0, -Infinity, 0], [4, 3], {
        device,
      });
      const y = ops.softmax(x).dataSync();
      expect([...y.slice(0, 3)]).toEqual([0.5, 0.5, 0]);
      expect([...y.slice(3, 6)]).toEqual([1 / 3, 1 / 3, 1 / 3].map(Math.fround));
      expect(y.slice(6, 9).some(Number.isNaN)).toBe(true);
      expect([...y.slice(9)]).toEqual([0.5, 0, 0.5]);
    });
  });

  test.each([[[0, 4]], [[3, 0]]])("%j is empty", (shape) => {
    tidy(() => {
      const x = Tensor.from([], shape, { device });
      const { value, grads } = pullback(() => ops.softmax(x), [x], new Float32Array(0));
      expect([value.length, grads[0]!.length]).toEqual([0, 0]);
    });
  });

  test("the same bits at any thread count", () => {
    const values = uniform(501 * 131, -3, 3, 1);
    assertSameAtAnyThreads(() =>
      tidy(() => {
        const x = Tensor.from(values, [501, 131], { device });
        const { value, grads } = pullback(() => ops.softmax(x), [x], cotangent(501 * 131, 2));
        return [value, ...grads];
      }),
    );
  });

  test("says what is wrong", () => {
    tidy(() => {
      const cases: [() => unknown, string, RegExp][] = [
        [
          () => ops.softmax(Tensor.from([1], [], { device })),
          "ERR_SHAPE",
          /softmax: x has shape \[\], want at least 1/,
        ],
        [() => ops.softmax(Tensor.from(Int32Array.of(1), [1], { device })), "ERR_DTYPE", /softmax: x is int32/],
        [() => ops.softmax([1] as never), "ERR_TYPE", /softmax: x is \[1\], want a Tensor/],
      ];
      for (const [fn, code, message] of cases) {
        expect(fn).toThrow(message);
        expect(fn).toThrow(expect.objectContaining({ code }));
      }
    });
  });
});
