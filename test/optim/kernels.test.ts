import { describe, expect, test } from "vitest";
import { type DType, Tensor, tidy } from "../../lib/index.ts";
import { type Handle, native } from "../../lib/native.ts";
import { adamwStep } from "../support/adamw_step.ts";
import { testDevices } from "../support/devices.ts";
import { adamwOracle } from "../support/oracle_matrix.ts";
import { assertSameAtAnyThreads } from "../support/pullback.ts";
import { rounded, uniform } from "../support/random.ts";
import { assertClose, float32Steps } from "../support/tolerance.ts";

type Five = [Handle, Handle, Handle, Handle, Handle];

describe.each(testDevices)("optimizer kernels on %s", (device) => {
  test.each([
    [1, "float32"],
    [101, "float32"],
    [67, "bfloat16"],
    [0, "float32"],
  ] as [number, DType][])("adamw, %d elements, %s gradient", (size, dtype) => {
    const settings = { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0.1 };
    const state = {
      param: Float64Array.from(uniform(size, -1, 1, 1)),
      m: new Float64Array(size),
      v: new Float64Array(size),
    };
    tidy(() => {
      const param = Tensor.from(Float32Array.from(state.param), [size], { device });
      const [m, v] = [1, 2].map(() => Tensor.from(new Float32Array(size), [size], { device })) as [Tensor, Tensor];
      const steps = 5;
      for (let step = 1; step <= steps; step++) {
        const values = uniform(size, 0.1, 1, 10 + step);
        const grad = Tensor.from(values, [size], { dtype, device });
        adamwStep(param, grad, m, v, settings, step);
        adamwOracle(state, rounded(values, dtype), step, settings);
      }
      // A step: m and v round 4 times each (constants, products, sum) and add to their past; an update is at most 12 roundings
      // of a value of about lr, the parameter (below 1.1) 3 more.
      assertClose(m.dataSync(), state.m, { relative: float32Steps(4 * steps), label: "m" });
      assertClose(v.dataSync(), state.v, { relative: float32Steps(5 * steps), label: "v" });
      const absolute = steps * (float32Steps(3) * 1.1 + float32Steps(12 + 9 * steps) * settings.lr * 2);
      assertClose(param.dataSync(), state.param, { absolute, label: "param" });
    });
  });

  test("adamw: without gradients only the decay moves a parameter; a slot that factors does not have is refused", () => {
    tidy(() => {
      const from = (value: number) => Tensor.from([value], [1], { device });
      const [param, grad, m, v] = [from(2), from(0), from(0), from(0)] as [Tensor, Tensor, Tensor, Tensor];
      adamwStep(param, grad, m, v, { lr: 0.5, beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0.5 }, 1);
      expect(param.dataSync()[0]).toBe(1.5);
      const handles = [param, grad, m, v, Tensor.zeros([3], { device })].map((t) => t.handle);
      for (const slot of [-1, 1])
        expect(() => native.adamw(...(handles as Five), slot, 0.9, 0.99, 1e-8)).toThrow(
          expect.objectContaining({ code: "ERR_RANGE" }),
        );
    });
  });

  test.each([
    [0, "float32"],
    [5, "float32"],
    [100_003, "float32"],
    [777, "bfloat16"],
  ] as [number, DType][])("sumSquares of %d elements, %s", (size, dtype) => {
    const values = uniform(size, -1, 1, 1);
    const expected = rounded(values, dtype).reduce((sum, v) => sum + v * v, 0);
    tidy(() => {
      const x = Tensor.from(values, [size], { dtype, device });
      const out = Tensor.from([3], [1], { device });
      native.sumSquares(x.handle, out.handle, 0);
      // float32 within blocks of 512 of positive terms, double beyond, one store.
      const relative = float32Steps(512 + 1);
      assertClose(out.dataSync(), [expected], { relative });
      native.sumSquares(x.handle, out.handle, 1);
      assertClose(out.dataSync(), [2 * expected], { relative: relative + float32Steps(1) });
      const root = Tensor.from([0], [1], { device });
      native.squareRoot(out.handle, root.handle);
      expect(root.dataSync()[0]).toBe(Math.fround(Math.sqrt(out.dataSync()[0]!)));
    });
  });

  test.each(["float32", "bfloat16"] as DType[])("clipScale of %s", (dtype) => {
    const clipped = (squares: number, maxNorm: number) =>
      tidy(() => {
        const x = Tensor.from([3, -4, 0, 0.5, 8], [5], { dtype, device });
        native.clipScale(x.handle, Tensor.from([squares], [1], { device }).handle, maxNorm);
        return [...x.dataSync()];
      });
    const original = [3, -4, 0, 0.5, 8];
    // 4 / (4 + 1e-6) · 0.5: off by 2.5e-7 from halving, two float32 roundings, one store.
    const relative = 2.5e-7 + float32Steps(2) + (dtype === "bfloat16" ? 2 ** -8 : float32Steps(1));
    assertClose(clipped(16, 2), [1.5, -2, 0, 0.25, 4], { relative });
    expect(clipped(16, 5)).toEqual(original);
    for (const squares of [Infinity, Number.NaN]) expect(clipped(squares, 1)).toEqual(original);
    expect(clipped(0, 1)).toEqual(original);
  });

  test("the same bits at any thread count", () => {
    const size = 200_001;
    assertSameAtAnyThreads(() =>
      tidy(() => {
        const tensors = [1, 2, 3, 4].map((seed) => Tensor.from(uniform(size, 0, 1, seed), [size], { device }));
        const [param, grad, m, v] = tensors as [Tensor, Tensor, Tensor, Tensor];
        const squares = Tensor.from([0], [1], { device });
        native.sumSquares(grad.handle, squares.handle, 0);
        native.clipScale(grad.handle, squares.handle, 1);
        adamwStep(param, grad, m, v, { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0.1 }, 3);
        return [squares, ...tensors].map((t) => t.dataSync());
      }),
    );
  });
});
