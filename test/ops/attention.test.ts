import { describe, expect, test } from "vitest";
import { type DType, ops, Tensor, tidy } from "../../lib/index.ts";
import { sizeFor, testDevices } from "../support/devices.ts";
import { type AttentionExtents, attentionOracle, attentionWeights } from "../support/oracle_matrix.ts";
import { assertSameAtAnyThreads, checkOp, pullback } from "../support/pullback.ts";
import { cotangent, rounded, uniform } from "../support/random.ts";
import { bfloat16Rounding, float32Steps, storeRounding } from "../support/tolerance.ts";

describe.each(testDevices)("attention on %s", (device) => {
  // Lengths around the blocks of 64 queries and 128 keys of the CPU, and the blocks of 256 of CUDA.
  test.each([
    [1, 1, 1, "float32"],
    [2, 5, 3, "float32"],
    [2, 64, 8, "float32"],
    [1, 65, 17, "float32"],
    [1, 130, 4, "float32"],
    [1, 200, 5, "float32"],
    [1, 300, 3, "float32"],
    [5, 24, 8, "float32"],
    [2, 7, 16, "bfloat16"],
    [1, 20, 256, "bfloat16"],
    [1, 264, 16, "bfloat16"],
    [1, 131, 9, "bfloat16"],
  ] as [number, number, number, DType][])("heads %d, T %d, D %d, %s", (heads, length, size, dtype) => {
    const values = [1, 2, 3].map((seed) => uniform(heads * length * size, -1, 1, seed));
    for (const causal of [false, true]) {
      const e: AttentionExtents = { heads, length, size, causal, scale: 1 / Math.sqrt(size) };
      const [q, k] = values.map((v) => rounded(v, dtype)) as [Float64Array, Float64Array];
      // All inputs are below 1, cotangents below 2. A score sums D products and is scaled; its error is the relative error of
      // its exponential, and of the row's sum. Then: exp 3 steps, the row's sum T, per block of keys a few more for rescaling.
      const score = float32Steps(size + 2) * e.scale * size;
      const weight = 2 * score + float32Steps(2 * length + 16);
      // CUDA rounds P and dS once to bfloat16 where the inputs are. Rows of P sum to 1, so this moves a result, and with it delta's
      // factor out, by one rounding of the largest v.
      const narrowed = device !== "cpu" && dtype === "bfloat16" ? bfloat16Rounding : 0;
      // dP and delta sum D products of values below 2; dS = P (dP - delta), with rows of P summing to 1.
      const dP = 2 * size;
      // In bfloat16 delta is computed from the rounded result.
      const delta = dtype === "bfloat16" ? storeRounding(dtype) * dP : 0;
      const dScore = 2 * dP * (weight + float32Steps(size + length + 4) + narrowed) + delta + narrowed * dP;
      const weights = attentionWeights(q, k, e);
      const columns = new Float64Array(heads * length);
      for (const [i, w] of weights.entries()) columns[Math.floor(i / length ** 2) * length + (i % length)]! += w;
      const column = columns.reduce((a, b) => Math.max(a, b), 0);
      const relative = storeRounding(dtype);
      const gradients = [
        { absolute: e.scale * dScore, relative },
        { absolute: e.scale * dScore * column, relative },
        { absolute: 2 * column * (weight + float32Steps(length) + narrowed), relative },
      ];
      checkOp({
        inputs: ["q", "k", "v"].map((name, i) => ({
          name,
          shape: [heads, length, size],
          values: values[i]!,
          dtype,
          gradient: gradients[i]!,
        })),
        op: (a, b, c) => ops.attention(a!, b!, c!, { causal }),
        oracle: (a, b, c) => attentionOracle(a!, b!, c!, e),
        value: { absolute: weight + float32Steps(length) + narrowed, relative },
        gradient: {},
        samples: length > 100 ? 10 : 32,
        device,
      });
    }
  });

  test("scale is used; large scores stay finite and pick the largest key", () => {
    tidy(() => {
      const q = Tensor.from([1, 1], [2, 1], { device });
      const k = Tensor.from([-500, 500], [2, 1], { device });
      const v = Tensor.from([3, 7], [2, 1], { device });
      expect([...ops.attention(q, k, v, { scale: 10 }).dataSync()]).toEqual([7, 7]);
      expect([...ops.attention(q, k, v, { scale: 10, causal: true }).dataSync()]).toEqual([3, 7]);
      expect([...ops.attention(q, k, v, { scale: 0 }).dataSync()]).toEqual([5, 5]);
    });
  });

  test("causal: later keys and values change nothing, however large", () => {
    const [length, seen] = [150, 91];
    const arrays = [1, 2, 3].map((seed) => uniform(length * 4, -1, 1, seed)) as [
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    const run = () =>
      tidy(() => {
        const [q, k, v] = arrays.map((x) => Tensor.from(x, [length, 4], { device })) as [Tensor, Tensor, Tensor];
        const out = ops.attention(q, k, v, { causal: true }).dataSync();
        return [out.slice(0, seen * 4), out.slice(seen * 4)];
      });
    const [before, beforeLater] = run();
    arrays[1].fill(1e15, seen * 4);
    arrays[2].fill(1e15, seen * 4);
    const [after, afterLater] = run();
    expect(after).toEqual(before);
    expect(afterLater).not.toEqual(beforeLater);
  });

  test("no tokens or no heads: an empty result", () => {
    tidy(() => {
      for (const shape of [
        [2, 0, 4],
        [0, 3, 4],
      ]) {
        const [q, k, v] = [1, 2, 3].map(() => Tensor.from([], shape, { device })) as [Tensor, Tensor, Tensor];
        const { value, grads } = pullback(() => ops.attention(q, k, v), [q, k, v], new Float32Array(0));
        expect([value, ...grads].map((a) => a!.length)).toEqual([0, 0, 0, 0]);
      }
    });
  });

  test("gradients only where wanted", () => {
    tidy(() => {
      const [q, k, v] = [1, 2, 3].map((seed) =>
        Tensor.from(uniform(70 * 3, -1, 1, seed), [70, 3], { device }),
      ) as Tensor[];
      const seeds = cotangent(210, 4);
      const all = pullback(() => ops.attention(q!, k!, v!), [q!, k!, v!], seeds).grads;
      for (const [i, x] of [q!, k!, v!].entries())
        expect(pullback(() => ops.attention(q!, k!, v!), [x], seeds).grads).toEqual([all[i]]);
    });
  });

  test.each(["float32", "bfloat16"] as DType[])("the same bits at any thread count, %s", (dtype) => {
    const shape = sizeFor(device, [6, 140, 16], [6, 70, 8]);
    const values = [1, 2, 3].map((seed) => uniform(shape[0]! * shape[1]! * shape[2]!, -1, 1, seed));
    assertSameAtAnyThreads(() =>
      tidy(() => {
        const [q, k, v] = values.map((x) => Tensor.from(x, shape, { dtype, device })) as [Tensor, Tensor, Tensor];
        const { value, grads } = pullback(
          () => ops.attention(q, k, v, { causal: true }),
          [q, k, v],
          cotangent(q.size, 4),
        );
        return [value, ...grads];
      }),
    );
  });

  test("says what is wrong", () => {
    tidy(() => {
      const q = Tensor.from(new Float32Array(6), [2, 3], { device });
      const k = Tensor.from(new Float32Array(9), [3, 3], { device });
      const wide = Tensor.from(new Float32Array(257), [1, 257], { device });
      const narrow = Tensor.from(new Float32Array(6), [2, 3], { dtype: "bfloat16", device });
      const cases: [() => unknown, string, RegExp][] = [
        [() => ops.attention(q, k, q), "ERR_SHAPE", /attention: k has shape \[3, 3\], want \[2, 3\]/],
        [() => ops.attention(wide, wide, wide), "ERR_SHAPE", /attention: q has shape \[1, 257\].*1 to 256/],
        [() => ops.attention(q, q, narrow), "ERR_DTYPE", /attention: v is bfloat16, want float32 like q/],
        [() => ops.attention(q, q, q, { scale: Number.NaN }), "ERR_RANGE", /attention: options.scale is NaN/],
        [() => ops.attention(q, q, q, { causal: 1 as never }), "ERR_TYPE", /attention: options.causal is 1/],
      ];
      for (const [fn, code, message] of cases) {
        expect(fn).toThrow(message);
        expect(fn).toThrow(expect.objectContaining({ code }));
      }
    });
  });
});
