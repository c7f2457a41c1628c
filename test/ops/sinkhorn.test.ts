/** sinkhorn: values and exact gradients in both conventions, extreme logits, bad input. */
import { afterAll, describe, expect, test } from "vitest";
import { memory, ops, setThreads, Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import { testDevices } from "../support/devices.ts";
import { expectError } from "../support/errors.ts";
import { gradcheck } from "../support/gradcheck.ts";
import * as oracle from "../support/oracle.ts";
import { logSinkhorn } from "../support/oracle_sinkhorn.ts";
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
            const shifts = oracle.columnMaxima(values, n);
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

  // What no shift of the whole matrix survives: a stream was erased from a spread of 87 on.
  const spreads: Record<string, (n: number, size: number) => Float32Array> = {
    "N(0, 1)": (n, size) => normal(size, 1, n),
    "N(0, 16²)": (n, size) => normal(size, 16, n),
    "N(0, 24²)": (n, size) => normal(size, 24, n),
    "N(0, 300²)": (n, size) => normal(size, 300, n + 1),
    "uniform ±1e4": (n, size) => uniform(size, -1e4, 1e4, n),
    "±1e4 in turn": (_, size) => Float32Array.from({ length: size }, (_, i) => (i % 3 ? -1e4 : 1e4)),
    "a row 90 above": (n, size) => normal(size, 1, 3).map((v, i) => v + (Math.floor(i / n) % n === 1 ? 90 : 0)),
    "a row 9000 below": (n, size) => normal(size, 1, 3).map((v, i) => v - (Math.floor(i / n) % n === 1 ? 9e3 : 0)),
    "a column 300 above, a row 500 below": (n, size) =>
      normal(size, 2, 3).map((v, i) => v - (Math.floor(i / n) % n === 1 ? 500 : 0) + (i % n === 0 ? 300 : 0)),
    "all rows but one in one column": (n, size) =>
      normal(size, 1, 5).map((v, i) => v - (Math.floor(i / n) % n < n - 1 === (i % n === 0) ? 0 : 100)),
    "a permutation": (n, size) =>
      normal(size, 1, 3).map((v, i) => v + (Math.floor(i / n) % n === (i + 1) % n ? 9e3 : -9e3)),
  };
  for (const convention of conventions)
    for (const n of [2, 4, 8])
      for (const iters of [1, 20, 64])
        test(`${convention}, n = ${n}, ${iters} iterations: exact whatever the spread, forward and backward`, () => {
          const tokens = device === "cpu" ? 40 : 8;
          for (const [name, make] of Object.entries(spreads)) {
            const values = make(n, tokens * n * n);
            const c = cotangent(values.length, 7);
            const [res, grad] = tidy(() => {
              const logits = Tensor.from(values, [tokens, n, n], { device });
              const weights = Tensor.from(c, logits.shape, { device });
              const run = () => ops.sinkhorn(logits, { iters, eps: 0, convention });
              const [, [g]] = valueAndGrad(() => ops.sum(ops.mul(run(), weights)), [logits]);
              return [run().dataSync(), g!.dataSync()];
            });
            for (let t = 0; t < tokens; t++) {
              const of = <A extends Float32Array>(a: A) => a.subarray(t * n * n, (t + 1) * n * n) as A;
              const want = logSinkhorn(of(values), of(c), { n, iters, convention });
              const largest = of(values).reduce((top, v) => Math.max(top, Math.abs(v)), 0);
              const absolute = 1e-6 + 2 ** -23 * largest;
              assertClose(of(res as Float32Array), want.res, { absolute, label: `${name}, res` });
              assertClose(of(grad as Float32Array), want.gradLogits, { absolute, label: `${name}, gradient` });
            }
          }
        });

  test.each(conventions)(
    "−∞ is an entry of 0 without gradient; NaN, +∞ and an empty line make all NaN: %s",
    (convention) => {
      const n = 4;
      const values = normal(5 * n * n, 1, 6);
      values[5] = -Infinity;
      values[n * n + 6] = Number.NaN;
      values[2 * n * n + 7] = Infinity;
      for (let j = 0; j < n; j++) values[3 * n * n + n + j] = -Infinity;
      tidy(() => {
        const logits = Tensor.from(values, [5, n, n], { device });
        const weights = Tensor.from(cotangent(values.length, 3), logits.shape, { device });
        const run = () => ops.sinkhorn(logits, { eps: 0, convention });
        const [, [g]] = valueAndGrad(() => ops.sum(ops.mul(run(), weights)), [logits]);
        const [res, grad] = [run().dataSync(), g!.dataSync()];
        expect([res[5], grad[5]]).toEqual([0, 0]);
        for (const [t, whole] of [true, false, false, false, true].entries())
          for (const result of [res, grad])
            expect([...result.subarray(t * n * n, (t + 1) * n * n)].every((v) => Number.isNaN(v) !== whole)).toBe(true);
      });
    },
  );

  test.each(conventions)("with an eps, logits of ±1e4 stay finite, forward and backward: %s", (convention) => {
    for (const n of [1, 2, 4, 8])
      for (const eps of [1e-6, 1e-2])
        for (const make of Object.values(spreads)) {
          const values = make(n, 6 * n * n);
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
