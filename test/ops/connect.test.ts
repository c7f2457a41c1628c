/** connect: one node against the float64 oracle and against its own composition, gradients of branch parameters, bits. */
import { describe, expect, test } from "vitest";
import { memory, noGrad, ops, Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import { coefficientSteps, connectionInputs, streamTolerance, tensorsOf } from "../support/connection.ts";
import { testDevices } from "../support/devices.ts";
import { expectError } from "../support/errors.ts";
import { gradcheck } from "../support/gradcheck.ts";
import * as oracle from "../support/oracle.ts";
import { assertSameAtAnyThreads, pullback } from "../support/pullback.ts";
import { cotangent, normal } from "../support/random.ts";
import { assertBitwiseEqual, assertClose, bfloat16Rounding, float32Steps } from "../support/tolerance.ts";

const branches = {
  identity: { op: (u: Tensor) => u, oracle: (u: Float64Array) => u },
  silu: { op: (u: Tensor) => ops.silu(u), oracle: oracle.silu },
  constant: { op: (u: Tensor) => ops.scale(u, 0), oracle: (u: Float64Array) => u.map(() => 0) },
};

describe.each(testDevices)("connect on %s", (device) => {
  for (const [name, branch] of Object.entries(branches))
    for (const n of [1, 2, 4, 8])
      for (const dtype of ["float32", "bfloat16"] as const)
        for (const logitScale of [1, 4])
          test(`${name} branch, n = ${n}, ${dtype}, logits ${logitScale}`, () => {
            const c = { n, channels: 21, tokens: 17, logitScale, dtype };
            const { x, phi, alpha, bias } = connectionInputs(c);
            const steps = coefficientSteps(c);
            // bfloat16: u and f are stored once each before they reach y, and so are df and du.
            const store = dtype === "bfloat16" ? 3 * bfloat16Rounding : 0;
            gradcheck({
              inputs: [x, phi, alpha, bias],
              op: (...t) => ops.connect(t[0]!, { phi: t[1]!, alpha: t[2]!, bias: t[3]! }, branch.op),
              oracle: (...a) => oracle.connect(a[0]!, a[1]!, a[2]!, a[3]!, branch.oracle, n, c.channels),
              value: { scaled: float32Steps(2 * steps) + store },
              gradient: { scaled: float32Steps(4 * steps) + store, absolute: float32Steps(4 * steps) },
              step: 1e-3 / logitScale,
              device,
              samples: 12,
            });
          });

  test("equals mhcPre, branch, mhcPost: the same bits forward; backward up to the order of four terms", () => {
    const c = { n: 4, channels: 48, tokens: 37, logitScale: 2, dtype: "float32" as const };
    const { x, phi, alpha, bias } = tensorsOf(connectionInputs(c), device);
    const weight = Tensor.from(normal(48 * 48, 0.1, 9), [48, 48], { device });
    const branch = (u: Tensor) => ops.linear(u, weight);
    const params = [x, phi, alpha, bias, weight];
    const seeds = cotangent(x.size, 4);
    const fused = pullback(() => ops.connect(x, { phi, alpha, bias }, branch), params, seeds);
    const composed = pullback(
      () => {
        const { input, post, res } = ops.mhcPre(x, { phi, alpha, bias });
        return ops.mhcPost(x, branch(input), post, res);
      },
      params,
      seeds,
    );
    assertBitwiseEqual(fused.value, composed.value);
    for (const [i, grad] of fused.grads.entries())
      assertClose(grad!, composed.grads[i]!, { scaled: float32Steps(coefficientSteps(c)), label: `gradient ${i}` });
    for (const t of params) t.dispose();
  });

  test("bfloat16 dx is rounded once: nearer to float64 than the composition's two roundings", () => {
    const c = { n: 4, channels: 64, tokens: 64, logitScale: 1, dtype: "bfloat16" as const };
    const { x, phi, alpha, bias } = tensorsOf(connectionInputs(c), device);
    const seeds = cotangent(x.size, 4);
    const gradient = (dtype: "bfloat16" | "float32", fused: boolean) => {
      const streams = x.to(dtype);
      const p = { phi, alpha, bias };
      const { grads } = pullback(
        () => {
          if (fused) return ops.connect(streams, p, (u) => u);
          const { input, post, res } = ops.mhcPre(streams, p);
          return ops.mhcPost(streams, input, post, res);
        },
        [streams],
        seeds,
      );
      streams.dispose();
      return grads[0]!;
    };
    const exact = gradient("float32", true);
    const error = (g: ArrayLike<number>) => Math.sqrt(Array.from(g).reduce((s, v, i) => s + (v - exact[i]!) ** 2, 0));
    expect(error(gradient("bfloat16", true))).toBeLessThan(error(gradient("bfloat16", false)));
    for (const t of [x, phi, alpha, bias]) t.dispose();
  });

  test("nested connections and a captured intermediate share one set of gradients", () => {
    const c = { n: 2, channels: 6, tokens: 5, logitScale: 1, dtype: "float32" as const };
    const { x, phi, alpha, bias } = connectionInputs(c);
    gradcheck({
      inputs: [x, phi, alpha, bias, { name: "w", shape: [6], values: normal(6, 1, 8) }],
      op: (...t) => {
        const p = { phi: t[1]!, alpha: t[2]!, bias: t[3]! };
        const w = ops.silu(t[4]!);
        const inner = (u: Tensor) =>
          ops.contract(
            ops.connect(ops.expand(u, 2), p, (v) => ops.mul(v, w)),
            "mean",
          );
        return ops.connect(ops.connect(t[0]!, p, inner), p, (u) => ops.mul(u, w));
      },
      oracle: (...a) => {
        const w = oracle.silu(a[4]!);
        const times = (u: Float64Array) => u.map((v, i) => v * w[i % 6]!);
        const run = (v: Float64Array, f: (u: Float64Array) => Float64Array) =>
          oracle.connect(v, a[1]!, a[2]!, a[3]!, f, 2, 6);
        const inner = (u: Float64Array) => oracle.contract(run(oracle.expand(u, 2, 6), times), 2, 6, "mean");
        return run(run(a[0]!, inner), times);
      },
      value: { scaled: float32Steps(6 * coefficientSteps(c)) },
      gradient: { scaled: float32Steps(12 * coefficientSteps(c)), absolute: float32Steps(12 * coefficientSteps(c)) },
      device,
    });
  });

  test("gradients only where they are wanted; nothing is left behind", () => {
    const live = memory();
    const inputs = connectionInputs({ n: 4, channels: 8, tokens: 3, logitScale: 1, dtype: "float32" });
    const { x, phi, alpha, bias } = tensorsOf(inputs, device);
    const w = Tensor.ones([8], { device });
    const before = memory();
    for (const params of [[w], [phi], [x, alpha], [bias, w], []]) {
      const [value, grads] = valueAndGrad(
        () => ops.sum(ops.connect(x, { phi, alpha, bias }, (u) => ops.mul(u, w))),
        params,
      );
      expect(grads.map((g) => g.shape)).toEqual(params.map((p) => p.shape));
      for (const g of grads) expect([...g.dataSync()].some((v) => v !== 0)).toBe(true);
      for (const t of [value, ...grads]) t.dispose();
      expect(memory().tensors).toBe(before.tensors);
      expect(memory().bytes).toBe(before.bytes);
    }
    // Outside valueAndGrad the coefficients are freed at once; only y, and what the branch made, remain.
    const y = noGrad(() => ops.connect(x, { phi, alpha, bias }, (u) => u));
    y.dispose();
    for (const t of [x, phi, alpha, bias, w]) t.dispose();
    expect(memory().tensors - live.tensors).toBeLessThanOrEqual(1);
  });

  test("the same bits at any thread count", () => {
    const c = { n: 4, channels: 40, tokens: 533, logitScale: 2, dtype: "float32" as const };
    const { x, phi, alpha, bias } = tensorsOf(connectionInputs(c), device);
    const seeds = cotangent(x.size, 4);
    assertSameAtAnyThreads(() => {
      const { value, grads } = pullback(
        () => ops.connect(x, { phi, alpha, bias }, (u) => ops.silu(u)),
        [x, phi, alpha, bias],
        seeds,
      );
      return [value, ...grads];
    });
    for (const t of [x, phi, alpha, bias]) t.dispose();
  });

  test("T = 0; onCoefficients; a branch that returns the wrong thing", () =>
    tidy(() => {
      const c = { n: 4, channels: 8, tokens: 2, logitScale: 1, dtype: "float32" as const };
      const { x, phi, alpha, bias } = tensorsOf(connectionInputs(c), device);
      const p = { phi, alpha, bias };
      expect(ops.connect(Tensor.zeros([0, 4, 8], { device }), p, (u) => u).shape).toEqual([0, 4, 8]);
      const shapes: (readonly number[])[] = [];
      ops.connect(x, p, (u) => u, {
        onCoefficients: ({ pre, post, res }) => shapes.push(pre.shape, post.shape, res.shape),
      });
      expect(shapes).toEqual([
        [2, 4],
        [2, 4],
        [2, 4, 4],
      ]);
      const run = (branch: unknown) => () => ops.connect(x, p, branch as (u: Tensor) => Tensor);
      expectError(run(3), "TypeError", "ERR_TYPE", /connect: branch is 3, want a function/);
      expectError(
        run(() => undefined),
        "TypeError",
        "ERR_TYPE",
        /the branch's result is undefined, want a Tensor/,
      );
      expectError(
        run(async (u: Tensor) => u),
        "TypeError",
        "ERR_TYPE",
        /branch: fn returned a promise/,
      );
      expectError(
        run(() => x),
        "ShapeError",
        "ERR_SHAPE",
        /the branch's result has shape \[2, 4, 8\], want \[2, 8\]/,
      );
      expectError(
        run((u: Tensor) => u.to("bfloat16")),
        "DTypeError",
        "ERR_DTYPE",
        /is bfloat16, want x's float32/,
      );
      expectError(
        () => ops.connect(x, { ...p, phi: bias }, (u) => u),
        "ShapeError",
        "ERR_SHAPE",
        /connect: phi has shape/,
      );
    }));

  test("the tolerance can fail: a wrong convention is caught", () => {
    const c = { n: 4, channels: 8, tokens: 4, logitScale: 2, dtype: "float32" as const };
    const { x, phi, alpha, bias } = connectionInputs(c);
    expect(() =>
      gradcheck({
        inputs: [x, phi, alpha, bias],
        op: (...t) => ops.connect(t[0]!, { phi: t[1]!, alpha: t[2]!, bias: t[3]! }, (u) => u, { iters: 1 }),
        oracle: (...a) =>
          oracle.connect(a[0]!, a[1]!, a[2]!, a[3]!, (u) => u, 4, 8, { convention: "deepseek-v4", iters: 1 }),
        value: streamTolerance(c),
        gradient: streamTolerance(c),
        device,
      }),
    ).toThrow(/out of tolerance/);
  });
});
