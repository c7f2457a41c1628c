/** sinkhorn: values and exact gradients in both conventions, extreme logits, bad input. */
import { afterAll, describe, expect, test } from "vitest";
import { memory, ops, setThreads, Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import { testDevices } from "../support/devices.ts";
import { expectError } from "../support/errors.ts";
import { gradcheck } from "../support/gradcheck.ts";
import * as oracle from "../support/oracle.ts";
import { cotangent, normal, uniform } from "../support/random.ts";
import { assertBitwiseEqual, assertClose, float32Steps } from "../support/tolerance.ts";

const conventions = ["paper", "deepseek-v4"] as const;

describe.each(testDevices)("sinkhorn on %s", (device) => {
  const live = memory().tensors;
  afterAll(() => expect(memory().tensors).toBe(live));

  for (const convention of conventions)
    for (const n of [1, 2, 4, 8])
      for (const scale of [1, 2, 4, 8])
        for (const eps of [0, 1e-6, 1e-2])
          test(`${convention}, n = ${n}, logits N(0, ${scale}²), eps ${eps}`, () => {
            const [tokens, iters] = [5, 20];
            // Forward: each of 2·iters normalisations rounds a sum of n, a reciprocal and a product (n + 2 steps); logits near
            // 8·scale reach exp with one rounding of their own size.
            const steps = 2 * iters * (n + 2) + 4 * scale + 4;
            const values = normal(tokens * n * n, scale, n * 10 + scale);
            const shifts = Array.from({ length: tokens }, (_, t) =>
              Math.max(...values.subarray(t * n * n, (t + 1) * n * n)),
            );
            gradcheck({
              inputs: [{ name: "logits", shape: [tokens, n, n], values }],
              op: (logits) => ops.sinkhorn(logits!, { iters, eps, convention }),
              oracle: (logits) => oracle.sinkhorn(logits!, n, { iters, eps, convention, shifts }),
              value: { relative: float32Steps(2 * steps) },
              // Backward rewinds the same steps with one dot product each, on terms up to the cotangent's 2.
              gradient: { absolute: 2 * float32Steps(2 * steps) },
              device,
              samples: 80,
            });
          });

  test.each(conventions)("rows (paper) or columns (deepseek-v4) sum to 1, entries are in [0, 1]: %s", (convention) => {
    const n = 4;
    const tokens = 517;
    const res = tidy(() =>
      ops
        .sinkhorn(Tensor.from(normal(tokens * 16, 2, 3), [11, 47, n, n], { device }), { eps: 0, convention })
        .dataSync(),
    );
    const sums = new Float64Array(tokens * n);
    for (let at = 0; at < res.length; at++) {
      expect(res[at]).toBeGreaterThanOrEqual(0);
      expect(res[at]).toBeLessThanOrEqual(1 + float32Steps(2));
      const [t, i] = [Math.floor(at / 16), Math.floor(at / n) % n];
      // P = resᵀ has its columns normalised last, which are the rows of res.
      sums[t * n + i]! += res[at]!;
    }
    // A sum of n, a reciprocal, a product.
    assertClose(sums, new Float64Array(sums.length).fill(1), { relative: float32Steps(n + 2) });
  });

  test("at eps 0, deepseek-v4 is paper on the transposed logits", () => {
    const values = normal(3 * 16, 1, 8);
    const flipped = values.map((_, at) => values[at - (at % 16) + (at % 4) * 4 + (Math.floor(at / 4) % 4)]!);
    const run = (v: Float32Array, convention: "paper" | "deepseek-v4", iters: number) =>
      tidy(() => ops.sinkhorn(Tensor.from(v, [3, 4, 4], { device }), { eps: 0, convention, iters }).dataSync());
    // Few iterations: both converge to the same matrix, where the order no longer shows.
    for (const iters of [1, 2])
      assertClose(run(values, "deepseek-v4", iters), run(flipped, "paper", iters), {
        relative: float32Steps(2 * 2 * iters * 6),
      });
    expect(() =>
      assertClose(run(values, "deepseek-v4", 1), run(values, "paper", 1), { relative: float32Steps(48) }),
    ).toThrow(/out of tolerance/);
  });

  test.each(conventions)("logits of ±1e4 and underflowing sums stay finite, forward and backward: %s", (convention) => {
    for (const n of [1, 2, 4, 8])
      for (const eps of [0, 1e-6]) {
        const patterns = [
          uniform(6 * n * n, -1e4, 1e4, n),
          Float32Array.from({ length: 6 * n * n }, (_, i) => (i % 3 ? -1e4 : 1e4)),
          // One row far below the others: its entries all underflow.
          Float32Array.from({ length: 6 * n * n }, (_, i) => (Math.floor(i / n) % n === 0 ? -1e4 : 0)),
          // One column.
          Float32Array.from({ length: 6 * n * n }, (_, i) => (i % n === 0 ? -1e4 : 0)),
        ];
        for (const values of patterns)
          tidy(() => {
            const logits = Tensor.from(values, [6, n, n], { device });
            const c = Tensor.from(cotangent(values.length, 2), [6, n, n], { device });
            const res = ops.sinkhorn(logits, { eps, convention });
            expect([...res.dataSync()].every((v) => v >= 0 && v <= 1 + float32Steps(4))).toBe(true);
            const [, [g]] = valueAndGrad(
              () => ops.sum(ops.mul(ops.sinkhorn(logits, { eps, convention }), c)),
              [logits],
            );
            expect([...g!.dataSync()].every(Number.isFinite)).toBe(true);
          });
      }
  });

  test("size 0, the same bits at 1 and 2 threads and wherever a token stands", () => {
    const values = normal(1037 * 16, 2, 4);
    const run = (from: number) =>
      tidy(() => {
        const logits = Tensor.from(values.slice(16 * from), [1037 - from, 4, 4], { device });
        const c = Tensor.from(cotangent(values.length, 5).slice(16 * from), logits.shape, { device });
        const [, [g]] = valueAndGrad(() => ops.sum(ops.mul(ops.sinkhorn(logits), c)), [logits]);
        return [ops.sinkhorn(logits).dataSync() as Float32Array, g!.dataSync() as Float32Array];
      });
    setThreads(1);
    const one = run(0);
    setThreads(2);
    for (const [i, v] of run(0).entries()) assertBitwiseEqual(v, one[i]!, "2 threads");
    for (const [i, v] of run(3).entries()) assertBitwiseEqual(v, one[i]!.slice(48), "shifted by 3 tokens");
    tidy(() => expect(ops.sinkhorn(Tensor.zeros([0, 4, 4], { device })).shape).toEqual([0, 4, 4]));
  });

  test("bad input", () => {
    tidy(() => {
      const logits = Tensor.zeros([3, 4, 4], { device });
      for (const iters of [0, 65, 1.5, Number.NaN, "3", Infinity])
        expectError(
          () => ops.sinkhorn(logits, { iters: iters as number }),
          "RangeError",
          "ERR_RANGE",
          /options\.iters is/,
        );
      for (const eps of [-1, 2, Number.NaN])
        expectError(() => ops.sinkhorn(logits, { eps }), "RangeError", "ERR_RANGE", /options\.eps is/);
      expectError(
        () => ops.sinkhorn(logits, { convention: "v4" as never }),
        "TypeError",
        "ERR_TYPE",
        /options\.convention is "v4", want "paper" or "deepseek-v4"/,
      );
      for (const shape of [[3, 4], [4], [], [3, 3], [2, 16, 16]])
        expectError(
          () => ops.sinkhorn(Tensor.zeros(shape, { device })),
          "ShapeError",
          "ERR_SHAPE",
          /^sinkhorn: logits has/,
        );
      const half = Tensor.zeros([4, 4], { dtype: "bfloat16", device });
      expectError(() => ops.sinkhorn(half), "DTypeError", "ERR_DTYPE", /logits is bfloat16, want float32/);
      logits.dispose();
      expectError(() => ops.sinkhorn(logits), "DisposedError", "ERR_DISPOSED", /logits was disposed/);
    });
  });
});
