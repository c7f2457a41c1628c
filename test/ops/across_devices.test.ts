/** What every device computes with the CPU's bits: copies, conversions, random numbers, and single operations per element. */
import { describe, expect, test } from "vitest";
import { type DType, ops, Tensor, tidy } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { adamwStep } from "../support/adamw_step.ts";
import { testDevices } from "../support/devices.ts";
import { pullback } from "../support/pullback.ts";
import { cotangent, integers, normal, uniform } from "../support/random.ts";
import { assertBitwiseEqual } from "../support/tolerance.ts";

type Values = Float32Array | Int32Array | Uint16Array;

// Whole vectors of eight elements, a tail, less than one vector, and more than the blocks of one pass.
const sizes = [4096, 1003, 5, 140_001];
const floats = ["float32", "bfloat16"] as const;
// Without fused multiply-adds the CPU rounds once more.
const fused = native.info().simd !== "portable";

/** The same on the device as on the CPU. */
function assertSame(device: string, compute: (device: string) => (Values | undefined)[]): void {
  const want = tidy(() => compute("cpu"));
  for (const [i, values] of tidy(() => compute(device)).entries())
    assertBitwiseEqual(values!, want[i]!, `${device}, result ${i}`);
}

describe.each(testDevices)("bits of the CPU on %s", (device) => {
  test.each(sizes)("fill and randn, %i elements", (size) => {
    for (const dtype of ["float32", "bfloat16", "int32"] as const)
      assertSame(device, (on) => [Tensor.full([size], -77, { dtype, device: on }).dataSync()]);
    for (const dtype of floats)
      for (const seed of [0, 7, 2 ** 53 - 1])
        assertSame(device, (on) => [
          Tensor.full([size], 1 / 3, { dtype, device: on }).dataSync(),
          Tensor.randn([size], { seed, mean: 0.25, std: 3, dtype, device: on }).dataSync(),
        ]);
  });

  test.each(sizes)("cast between all dtypes, %i elements", (size) => {
    const values = normal(size, 1e5, 1);
    const dtypes: DType[] = ["float32", "bfloat16", "int32"];
    for (const from of dtypes)
      for (const to of dtypes)
        assertSame(device, (on) => {
          const x = Tensor.from(from === "int32" ? Int32Array.from(values) : values, [size], {
            dtype: from,
            device: on,
          });
          const out = Tensor.empty([size], to, on);
          native.cast(x.handle, out.handle);
          return [out.dataSync()];
        });
  });

  test.each(sizes)("dropout and its gradient, %i elements", (size) => {
    for (const dtype of floats)
      for (const p of [0.1, 0.5, 1])
        assertSame(device, (on) => {
          const x = Tensor.from(normal(size, 1, 1), [size], { dtype, device: on });
          const { value, grads } = pullback(() => ops.dropout(x, p, { seed: 11 }), [x], cotangent(size, 2));
          return [value, ...grads];
        });
  });

  test.runIf(fused).each(sizes)("adamw after three steps, and clipScale, %i elements", (size) => {
    for (const dtype of floats)
      assertSame(device, (on) => {
        const make = (seed: number) => Tensor.from(uniform(size, 0, 1, seed), [size], { device: on });
        const [param, m, v, squares] = [make(1), make(2), make(3), Tensor.from([1e3], [1], { device: on })];
        for (let step = 1; step <= 3; step++) {
          const grad = Tensor.from(normal(size, 1, 10 + step), [size], { dtype, device: on });
          native.clipScale(grad.handle, squares.handle, 2);
          adamwStep(param, grad, m, v, { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1 }, step);
        }
        return [param, m, v].map((t) => t.dataSync());
      });
  });

  test.runIf(fused).each(sizes)("elementwise ops and their gradients, %i elements", (size) => {
    for (const dtype of floats)
      assertSame(device, (on) => {
        const make = (seed: number) => Tensor.from(normal(size, 2, seed), [size], { dtype, device: on });
        const [a, b] = [make(1), make(2)];
        const calls = [() => ops.silu(a), () => ops.gelu(a), () => ops.swiglu(a, b), () => ops.scale(a, 0.3)];
        return [...calls, () => ops.add(a, b), () => ops.mul(a, b)].flatMap((fn) => {
          const { value, grads } = pullback(fn, [a], cotangent(size, 3));
          return [value, ...grads];
        });
      });
  });

  test.each([13, 24])("expand, contract and broadcasts, %i channels", (channels) => {
    const [tokens, n] = [67, 4];
    for (const dtype of floats)
      assertSame(device, (on) => {
        const h = Tensor.from(normal(tokens * channels, 1, 1), [tokens, channels], { dtype, device: on });
        const x = ops.expand(h, n);
        const repeated = [1, 3].flatMap((divisor) => {
          const out = Tensor.empty([tokens, 16, channels], dtype, on);
          native.broadcastAxis(h.handle, out.handle, tokens, 16, channels, divisor);
          const each = Tensor.empty([tokens, channels, 16], dtype, on);
          native.broadcastAxis(h.handle, each.handle, tokens * channels, 16, 1, divisor);
          return [out, each];
        });
        return [x, ops.contract(x, "mean"), ...repeated].map((t) => t.dataSync());
      });
  });

  // Chunks of the sort are 1024 tokens; index 3 has hundreds of tokens in each, most rows none.
  test.each([
    [2500, 5000, 8, 33],
    [1500, 700, 40, 264],
  ])(
    "embedding of %i tokens from %i rows, and its gradient in the order of the tokens",
    (tokens, rows, used, channels) => {
      const indices = integers(tokens, used, 3).map((v) => (v * 997) % rows);
      indices.fill(3, 0, tokens / 3);
      for (const dtype of floats)
        assertSame(device, (on) => {
          const weight = Tensor.from(normal(rows * channels, 1, 1), [rows, channels], { dtype, device: on });
          const i = Tensor.from(indices, [tokens], { device: on });
          const { value, grads } = pullback(() => ops.embedding(i, weight), [weight], normal(tokens * channels, 1, 2));
          return [value, ...grads];
        });
    },
  );

  test("a tensor moved to the device and back", async () => {
    const values = normal(1003, 1, 1);
    using x = Tensor.from(values, [1003]);
    using there = x.to(device);
    using back = there.to("cpu");
    assertBitwiseEqual((await back.data()) as Float32Array, values);
    expect(there.device).toBe(device);
  });
});
