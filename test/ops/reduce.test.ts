/** sum and mean: every axis, long sums, size 0, bad input. */
import { afterAll, describe, expect, test } from "vitest";
import { memory, ops, setThreads, Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import { testDevices } from "../support/devices.ts";
import { expectError } from "../support/errors.ts";
import { gradcheck } from "../support/gradcheck.ts";
import * as oracle from "../support/oracle.ts";
import { normal, rounded, uniform } from "../support/random.ts";
import { assertBitwiseEqual, assertClose, float32Steps, storeRounding } from "../support/tolerance.ts";

const cases: [number[], number | undefined][] = [
  [[], undefined],
  [[1], 0],
  [[5, 7], undefined],
  [[5, 7], 0],
  [[5, 7], 1],
  [[3, 131], -1],
  [[131, 3], -2],
  [[2, 3, 5], 1],
  [[70, 19], 0],
  [[2, 67, 33], 1],
  [[70, 24], 0],
  [[2, 9, 16], 1],
  [[3, 64], 1],
  [[3, 2048], 1],
];

describe.each(testDevices)("reductions on %s", (device) => {
  const live = memory().tensors;
  afterAll(() => expect(memory().tensors).toBe(live));

  for (const dtype of ["float32", "bfloat16"] as const)
    for (const name of ["sum", "mean"] as const)
      test.each(cases)(`${name} ${dtype} of %j over %s`, (shape, axis) => {
        const size = shape.reduce((a, b) => a * b, 1);
        const count = axis === undefined ? size : shape.at(axis)!;
        gradcheck({
          inputs: [{ name: "x", shape, values: uniform(size, -1, 1, size), dtype }],
          op: (x) => ops[name](x!, { axis }),
          oracle: (x) => (name === "sum" ? oracle.sum : oracle.mean)(x!, shape, axis),
          // At most `count` additions, of running sums below count (1 for the mean).
          value: { relative: storeRounding(dtype), absolute: float32Steps(count) * (name === "sum" ? count : 1) },
          gradient: { relative: storeRounding(dtype) + float32Steps(2) },
          device,
          samples: 64,
        });
      });

  test.each([
    [[100003], undefined],
    [[3, 40000], 1],
    [[5000, 3], 0],
    [[1000, 2100], 0],
  ])("a long sum over %j, axis %s, and its bits at 1 and 2 threads", (shape, axis) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const values = uniform(size, 0, 1, 7);
    const run = () => tidy(() => ops.sum(Tensor.from(values, shape, { device }), { axis }).dataSync() as Float32Array);
    setThreads(1);
    const one = run();
    setThreads(2);
    assertBitwiseEqual(run(), one);
    assertBitwiseEqual(run(), one, "second run");
    // Running sums: 16384 / (4 lanes · 4) = 1024 additions along a row at the narrowest vectors, or a 32nd of the column (64 at
    // least), then a tree of at most 32.
    const count = axis === undefined ? size : shape[axis]!;
    const steps = Math.max(1024, Math.ceil(count / 32)) + 16;
    assertClose(one, oracle.sum(rounded(values, "float32"), shape, axis), { relative: float32Steps(steps) });
  });

  test("size 0: a sum of nothing is 0, a mean NaN, and the gradient is empty", () => {
    tidy(() => {
      const x = Tensor.zeros([0, 3], { device });
      expect([...ops.sum(x).dataSync()]).toEqual([0]);
      expect([...ops.sum(x, { axis: 0 }).dataSync()]).toEqual([0, 0, 0]);
      expect(ops.sum(x, { axis: 1 }).shape).toEqual([0]);
      expect([...ops.mean(x).dataSync()]).toEqual([Number.NaN]);
      const [, [g]] = valueAndGrad(() => ops.sum(x), [x]);
      expect(g!.shape).toEqual([0, 3]);
    });
  });

  test("a sum over one axis, then all, has a gradient of ones", () => {
    tidy(() => {
      const x = Tensor.from(normal(24, 1, 1), [2, 3, 4], { device });
      const y = ops.mean(x, { axis: -2 });
      expect(y.shape).toEqual([2, 4]);
      const [, [g]] = valueAndGrad(() => ops.sum(ops.sum(x, { axis: 1 })), [x]);
      expect(g!.shape).toEqual([2, 3, 4]);
      expect([...g!.dataSync()]).toEqual(new Array(24).fill(1));
    });
  });

  test("bad input", () => {
    tidy(() => {
      const x = Tensor.zeros([2, 3], { device });
      for (const axis of [2, -3, 0.5, Number.NaN, "0"])
        expectError(() => ops.sum(x, { axis: axis as number }), "RangeError", "ERR_RANGE", /^sum: options\.axis is/);
      const scalar = Tensor.zeros([], { device });
      expectError(() => ops.mean(scalar, { axis: 0 }), "RangeError", "ERR_RANGE", /^mean: options\.axis is 0/);
      expectError(() => ops.mean(ops.cast(x, "int32")), "DTypeError", "ERR_DTYPE", /^mean: x is int32/);
      expectError(() => ops.sum(undefined as never), "TypeError", "ERR_TYPE", /x is undefined/);
    });
  });
});
