import { describe, expect, test } from "vitest";
import { type DType, ops, Tensor, tidy } from "../../lib/index.ts";
import { testDevices } from "../support/devices.ts";
import { crossEntropyOracle } from "../support/oracle_matrix.ts";
import { assertSameAtAnyThreads, checkOp, pullback } from "../support/pullback.ts";
import { integers, uniform } from "../support/random.ts";
import { float32Steps, storeRounding } from "../support/tolerance.ts";

describe.each(testDevices)("crossEntropy on %s", (device) => {
  test.each([
    [[1], 1, "float32"],
    [[3, 4], 5, "float32"],
    [[9], 65, "float32"],
    [[2], 1000, "float32"],
    [[3], 8200, "float32"], // more than one segment of a GPU's block
    [[6], 33, "bfloat16"],
    [[3, 2], 64, "bfloat16"],
  ] as [number[], number, DType][])("logits [%j, %d] %s", (leading, classes, dtype) => {
    const tokens = leading.reduce((a, b) => a * b, 1);
    const targets = integers(tokens, classes, 1);
    const range = 8;
    // log of the sum: the relative error of the sum of exponentials (argument, 3 steps of exp, sum) is its absolute error; the
    // logarithm's value is at most range + log(classes), as is the loss, and each of a few operations on it is one step.
    const sum = range + 3 + classes;
    const logSumExp = float32Steps(sum + 4 * (range + Math.log(classes)));
    checkOp({
      inputs: [
        {
          name: "logits",
          shape: [...leading, classes],
          values: uniform(tokens * classes, -range / 2, range / 2, 2),
          dtype,
          // A probability errs by what its exponent does; then - 1, the scale (two steps) and the store. The cotangent is below 2.
          gradient: {
            absolute: ((logSumExp + float32Steps(range + 3 + 3)) * 2) / tokens,
            relative: storeRounding(dtype),
          },
        },
        { name: "targets", shape: leading, values: targets, dtype: "int32" },
      ],
      op: (logits, t) => ops.crossEntropy(logits!, t!),
      oracle: (logits) => crossEntropyOracle(logits!, targets, classes),
      value: { absolute: logSumExp, relative: float32Steps(1) },
      gradient: {},
      device,
    });
  });

  test("is a scalar; equal logits give log V; a large offset changes nothing", () => {
    tidy(() => {
      const targets = Tensor.from(Int32Array.of(1, 3), [2], { device });
      const loss = ops.crossEntropy(Tensor.from(new Float32Array(8).fill(1e30), [2, 4], { device }), targets);
      expect(loss.shape).toEqual([]);
      expect(loss.dtype).toBe("float32");
      expect(loss.dataSync()[0]).toBe(Math.fround(Math.log(4)));
    });
  });

  test("the same bits at any thread count", () => {
    const [logits, targets] = [uniform(701 * 97, -3, 3, 1), integers(701, 97, 2)];
    assertSameAtAnyThreads(() =>
      tidy(() => {
        const x = Tensor.from(logits, [701, 97], { device });
        const t = Tensor.from(targets, [701], { device });
        const { value, grads } = pullback(() => ops.crossEntropy(x, t), [x], Float32Array.of(1.5));
        return [value, ...grads];
      }),
    );
  });

  test.each([50, -1])("target %d of 50 classes is an error at the next read", async (bad) => {
    const targets = integers(20, 50, 1);
    targets[12] = bad;
    const [x, t] = [Tensor.from(new Float32Array(1000), [20, 50], { device }), Tensor.from(targets, [20], { device })];
    const loss = ops.crossEntropy(x, t);
    const error: unknown = await loss.data().catch((e: unknown) => e);
    expect(error).toMatchObject({
      code: "ERR_RANGE",
      name: "RangeError",
      message: `crossEntropy: targets[12] is ${bad}, want 0 to 49`,
    });
    for (const tensor of [x, t, loss]) tensor.dispose();
  });

  test("says what is wrong", () => {
    tidy(() => {
      const x = Tensor.from(new Float32Array(6), [2, 3], { device });
      const t = Tensor.from(new Int32Array(2), [2], { device });
      const none = Tensor.from([], [0, 3], { device });
      const cases: [() => unknown, string, RegExp][] = [
        [
          () => ops.crossEntropy(x, t.view([1, 2])),
          "ERR_SHAPE",
          /crossEntropy: targets has shape \[1, 2\], want \[2\]/,
        ],
        [() => ops.crossEntropy(x, x), "ERR_DTYPE", /crossEntropy: targets is float32, want int32/],
        [() => ops.crossEntropy(t, t), "ERR_DTYPE", /crossEntropy: logits is int32/],
        [
          () => ops.crossEntropy(none, Tensor.from(new Int32Array(0), [0], { device })),
          "ERR_SHAPE",
          /crossEntropy: logits has shape \[0, 3\], want at least one token/,
        ],
      ];
      for (const [fn, code, message] of cases) {
        expect(fn).toThrow(message);
        expect(fn).toThrow(expect.objectContaining({ code }));
      }
    });
  });
});
