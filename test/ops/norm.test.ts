/** rmsNorm and layerNorm: values and gradients against float64, parameters of both dtypes, odd sizes, bad input. */
import { afterAll, describe, expect, test } from "vitest";
import { memory, ops, setThreads, Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import { testDevices } from "../support/devices.ts";
import { expectError } from "../support/errors.ts";
import { type CheckedInput, gradcheck } from "../support/gradcheck.ts";
import * as oracle from "../support/oracle.ts";
import { cotangent, normal, uniform } from "../support/random.ts";
import { assertBitwiseEqual, float32Steps, storeRounding } from "../support/tolerance.ts";

const shapes: [rows: number[], channels: number][] = [
  [[], 5],
  [[1], 1],
  [[3], 17],
  [[2, 3], 64],
  [[67], 33],
  [[4], 131],
];
const dtypes = [
  ["float32", "float32"],
  ["bfloat16", "float32"],
  ["bfloat16", "bfloat16"],
] as const;

describe.each(testDevices)("normalisation on %s", (device) => {
  const live = memory().tensors;
  afterAll(() => expect(memory().tensors).toBe(live));

  for (const [dtype, parameterDtype] of dtypes)
    for (const [rows, channels] of shapes)
      for (const which of ["rmsNorm", "layerNorm"] as const)
        for (const parameters of [0, 1, 2].slice(0, which === "rmsNorm" ? 2 : 3))
          test(`${which} ${dtype} [${[...rows, channels]}], ${parameters} parameters in ${parameterDtype}`, () => {
            const count = rows.reduce((a, b) => a * b, 1);
            // A row of one channel has variance 0: the slope of layerNorm is then about 1/√eps and cancels, so eps is 1 there.
            const eps = channels === 1 ? 1 : 1e-5;
            const inputs: CheckedInput[] = [
              { name: "x", shape: [...rows, channels], values: uniform(count * channels, -3, 3, 1), dtype },
              { name: "weight", shape: [channels], values: uniform(channels, 0.5, 2, 2), dtype: parameterDtype },
              { name: "bias", shape: [channels], values: normal(channels, 1, 3), dtype: parameterDtype },
            ];
            // A row sum passes at most channels/4 + log roundings of values near 1, in the statistics; each result some 6 more.
            const steps = channels / 4 + 12;
            const value = { relative: storeRounding(dtype), scaled: float32Steps(steps) };
            // dweight and dbias add `count` terms.
            for (const input of inputs.slice(1))
              input.gradient = { relative: storeRounding(parameterDtype), scaled: float32Steps(steps + 2 * count) };
            // Three terms cancel in dx: up to 4 times the statistics' error of the largest one. In bfloat16 the stored y and
            // dy do not enter, so dx is rounded once.
            const gradient = { relative: storeRounding(dtype), scaled: float32Steps(4 * steps) };
            gradcheck({
              inputs: inputs.slice(0, 1 + parameters),
              op: (x, weight, bias) =>
                which === "rmsNorm" ? ops.rmsNorm(x!, weight, { eps }) : ops.layerNorm(x!, weight, bias, { eps }),
              oracle: (x, weight, bias) =>
                which === "rmsNorm"
                  ? oracle.rmsNorm(x!, channels, weight, eps)
                  : oracle.layerNorm(x!, channels, weight, bias, eps),
              value,
              gradient,
              device,
              step: 2 ** -10,
              samples: 96,
            });
          });

  // Rows beyond one pass of a block; more rows than a GPU's partial sums; parameter sums too large for its shared memory.
  test.each([
    [3, 2056, "bfloat16"],
    [2101, 8, "float32"],
    [260, 1032, "float32"],
    [2, 30_008, "float32"],
    // 48 KB of sums, and static memory beside them.
    [2, 6144, "float32"],
  ] as const)("layerNorm of %i rows of %i channels, %s", (rows, channels, dtype) => {
    const eps = 1e-5;
    const steps = channels / 4 + 12;
    const parameter = { relative: storeRounding("float32"), scaled: float32Steps(steps + 2 * rows) };
    gradcheck({
      inputs: [
        { name: "x", shape: [rows, channels], values: uniform(rows * channels, -3, 3, 1), dtype },
        { name: "weight", shape: [channels], values: uniform(channels, 0.5, 2, 2), gradient: parameter },
        { name: "bias", shape: [channels], values: normal(channels, 1, 3), gradient: parameter },
      ],
      op: (x, weight, bias) => ops.layerNorm(x!, weight, bias, { eps }),
      oracle: (x, weight, bias) => oracle.layerNorm(x!, channels, weight, bias, eps),
      value: { relative: storeRounding(dtype), scaled: float32Steps(steps) },
      gradient: { relative: storeRounding(dtype), scaled: float32Steps(4 * steps) },
      device,
      step: 2 ** -10,
      samples: 8,
    });
  });

  test("a large common offset does not spoil the variance", () => {
    const channels = 96;
    const values = uniform(channels, 999, 1001, 5);
    gradcheck({
      inputs: [{ name: "x", shape: [1, channels], values, differentiable: true }],
      op: (x) => ops.layerNorm(x!),
      oracle: (x) => oracle.layerNorm(x!, channels),
      // The mean near 1000 carries channels/64 + 7 roundings, as an offset relative to a deviation of 0.58.
      value: { absolute: (float32Steps(channels / 4 + 7) * 1000) / 0.57 },
      gradient: { absolute: ((float32Steps(channels / 4 + 7) * 1000) / 0.57) * 4 },
      device,
    });
  });

  test("defaults of eps: rows of zeros stay finite", () => {
    tidy(() => {
      const x = Tensor.full([2, 3], 1e-3, { device });
      const want = 1e-3 / Math.sqrt(1e-6 + 1e-6);
      for (const y of ops.rmsNorm(x).dataSync()) expect(y).toBeCloseTo(want, 5);
      const z = Tensor.from([0, 2e-3], [1, 2], { device });
      expect(ops.layerNorm(z).dataSync()[1]).toBeCloseTo(1e-3 / Math.sqrt(1e-6 + 1e-5), 5);
      const zeros = Tensor.zeros([2, 3], { device });
      expect([...ops.rmsNorm(zeros).dataSync(), ...ops.layerNorm(zeros).dataSync()]).toEqual(new Array(12).fill(0));
    });
  });

  test.each([
    [0, 5],
    [3, 0],
    [0, 0],
  ])("size 0: [%i, %i] gives empty results and zero parameter gradients", (rows, channels) => {
    tidy(() => {
      const x = Tensor.zeros([rows, channels], { device });
      const weight = Tensor.ones([channels], { device });
      const bias = Tensor.ones([channels], { device });
      const [, [gx, gw, gb]] = valueAndGrad(() => ops.sum(ops.layerNorm(x, weight, bias)), [x, weight, bias]);
      expect(gx!.shape).toEqual([rows, channels]);
      expect([...gw!.dataSync(), ...gb!.dataSync()]).toEqual(new Array(2 * channels).fill(0));
      const [, [gr]] = valueAndGrad(() => ops.sum(ops.rmsNorm(x, weight)), [weight]);
      expect([...gr!.dataSync()]).toEqual(new Array(channels).fill(0));
    });
  });

  test("the same bits at 1 and 2 threads and in a second run", () => {
    const [rows, channels] = [301, 129];
    const run = () =>
      tidy(() => {
        const x = Tensor.from(normal(rows * channels, 1, 1), [rows, channels], { device });
        const weight = Tensor.from(normal(channels, 1, 2), [channels], { device });
        const bias = Tensor.from(normal(channels, 1, 3), [channels], { device });
        const c = Tensor.from(cotangent(rows * channels, 4), [rows, channels], { device });
        const layer = valueAndGrad(() => ops.sum(ops.mul(ops.layerNorm(x, weight, bias), c)), [x, weight, bias]);
        const rms = valueAndGrad(() => ops.sum(ops.mul(ops.rmsNorm(x, weight), c)), [x, weight]);
        return [layer[0], ...layer[1], rms[0], ...rms[1]].map((t) => t.dataSync() as Float32Array);
      });
    setThreads(1);
    const one = run();
    setThreads(2);
    for (const [i, values] of run().entries()) assertBitwiseEqual(values, one[i]!, `result ${i}`);
    for (const [i, values] of run().entries()) assertBitwiseEqual(values, one[i]!, `result ${i} again`);
  });

  test("bad input", () => {
    tidy(() => {
      const x = Tensor.zeros([2, 3], { device });
      const half = Tensor.zeros([3], { dtype: "bfloat16", device });
      const short = Tensor.zeros([2], { device });
      expectError(
        () => ops.rmsNorm(x, short),
        "ShapeError",
        "ERR_SHAPE",
        /^rmsNorm: weight has shape \[2\], want \[3\]/,
      );
      expectError(() => ops.layerNorm(x, undefined, short), "ShapeError", "ERR_SHAPE", /^layerNorm: bias has shape/);
      expectError(() => ops.rmsNorm(x, half), "DTypeError", "ERR_DTYPE", /weight is bfloat16/);
      expectError(() => ops.rmsNorm(Tensor.zeros([], { device })), "ShapeError", "ERR_SHAPE", /x has shape \[\]/);
      expectError(() => ops.rmsNorm(x, undefined, { eps: -1 }), "RangeError", "ERR_RANGE", /options\.eps is -1/);
      expectError(() => ops.layerNorm(x, undefined, undefined, { eps: Number.NaN }), "RangeError", "ERR_RANGE", /eps/);
      expectError(() => ops.layerNorm("x" as never), "TypeError", "ERR_TYPE", /x is "x", want a Tensor/);
      const ints = Tensor.zeros([2, 3], { dtype: "int32", device });
      expectError(() => ops.layerNorm(ints), "DTypeError", "ERR_DTYPE", /x is int32/);
      short.dispose();
      expectError(() => ops.layerNorm(x, short), "DisposedError", "ERR_DISPOSED", /weight was disposed/);
    });
  });
});
