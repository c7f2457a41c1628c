import { describe, expect, test } from "vitest";
import { type DType, ops, synchronize, Tensor, tidy } from "../../lib/index.ts";
import { testDevices } from "../support/devices.ts";
import { embeddingOracle } from "../support/oracle_matrix.ts";
import { assertSameAtAnyThreads, checkOp, pullback } from "../support/pullback.ts";
import { cotangent, integers, uniform } from "../support/random.ts";
import { float32Steps, storeRounding } from "../support/tolerance.ts";

describe.each(testDevices)("embedding on %s", (device) => {
  test.each([
    [[4, 9], 5, 3, "float32"],
    [[1], 1, 1, "float32"],
    [[40], 7, 33, "float32"],
    [[25], 11, 70, "bfloat16"],
    [[3, 5], 2, 5, "bfloat16"],
  ] as [number[], number, number, DType][])("indices %j into [%d, %d] %s", (shape, vocabulary, channels, dtype) => {
    const tokens = shape.reduce((a, b) => a * b, 1);
    const indices = integers(tokens, vocabulary, 1);
    checkOp({
      inputs: [
        { name: "indices", shape, values: indices, dtype: "int32" },
        { name: "weight", shape: [vocabulary, channels], values: uniform(vocabulary * channels, -1, 1, 2), dtype },
      ],
      op: (i, weight) => ops.embedding(i!, weight!),
      oracle: (_, weight) => embeddingOracle(indices, weight!, channels),
      value: {}, // a copy is exact
      // Cotangents are multiples of 1/64, so that only the store rounds; the differences err by their own 1e-12, scaled.
      gradient: { relative: storeRounding(dtype), absolute: float32Steps(1) * 2 ** -4 },
      device,
    });
  });

  test("rows that no token uses get a zero gradient, also without tokens", () => {
    tidy(() => {
      const weight = Tensor.from(uniform(6, -1, 1, 1), [3, 2], { device });
      const used = Tensor.from(Int32Array.of(2, 2), [2], { device });
      const { grads } = pullback(() => ops.embedding(used, weight), [weight], Float32Array.of(1, 2, 3, 4));
      expect([...grads[0]!]).toEqual([0, 0, 0, 0, 4, 6]);
      const none = Tensor.from(new Int32Array(0), [0], { device });
      const empty = pullback(() => ops.embedding(none, weight), [weight], new Float32Array(0));
      expect(empty.value).toHaveLength(0);
      expect([...empty.grads[0]!]).toEqual([0, 0, 0, 0, 0, 0]);
    });
  });

  test("the same bits at any thread count, with rows used hundreds of times", () => {
    const indices = integers(3000, 600, 3);
    indices.fill(7, 0, 900);
    const seeds = uniform(3000 * 50, -1, 1, 4);
    assertSameAtAnyThreads(() =>
      tidy(() => {
        const weight = Tensor.from(uniform(600 * 50, -1, 1, 5), [600, 50], { device });
        const i = Tensor.from(indices, [3000], { device });
        const { value, grads } = pullback(() => ops.embedding(i, weight), [weight], seeds);
        return [value, ...grads];
      }),
    );
  });

  test.each([50, -1, 2 ** 31 - 1])("index %d of 50 rows is an error at the next read", async (bad) => {
    const indices = integers(20, 50, 1);
    indices[12] = bad;
    const weight = Tensor.from(cotangent(150, 1), [50, 3], { device });
    const i = Tensor.from(indices, [20], { device });
    const out = ops.embedding(i, weight);
    const message = new RegExp(`embedding: indices\\[12\\] is ${bad}, want 0 to 49`);
    await expect(out.data()).rejects.toThrow(message);
    const again = ops.embedding(i, weight);
    await expect(again.data()).rejects.toMatchObject({ code: "ERR_RANGE", name: "RangeError" });
    await synchronize(); // the error is reported once; later work is not harmed
    for (const tensor of [weight, i, out, again]) tensor.dispose();
  });

  test("a bad index fails the reads behind it, not the ones before; of several the first is named", async () => {
    const indices = integers(3000, 50, 1);
    for (const at of [2999, 1700, 41, 1024]) indices[at] = 50 + at;
    const weight = Tensor.from(cotangent(150, 1), [50, 3], { device });
    const i = Tensor.from(indices, [3000], { device });
    const before = weight.data();
    const out = ops.embedding(i, weight);
    const behind = [out.data(), weight.data()];
    expect(await before).toHaveLength(150);
    await expect(behind[0]).rejects.toThrow(/indices\[41\] is 91, want 0 to 49/);
    expect(await behind[1]).toHaveLength(150);
    out.dispose();
    const again = ops.embedding(i, weight);
    await expect(synchronize(device)).rejects.toThrow(/indices\[41\] is 91/);
    for (const tensor of [weight, i, again]) tensor.dispose();
  });

  test("says what is wrong", () => {
    tidy(() => {
      const weight = Tensor.from(new Float32Array(6), [3, 2], { device });
      const indices = Tensor.from(new Int32Array(2), [2], { device });
      const cases: [() => unknown, string, RegExp][] = [
        [() => ops.embedding(weight, weight), "ERR_DTYPE", /embedding: indices is float32, want int32/],
        [() => ops.embedding(indices, indices), "ERR_DTYPE", /embedding: weight is int32/],
        [() => ops.embedding(indices, weight.view([6])), "ERR_SHAPE", /embedding: weight has shape \[6\]/],
      ];
      for (const [fn, code, message] of cases) {
        expect(fn).toThrow(message);
        expect(fn).toThrow(expect.objectContaining({ code }));
      }
    });
  });
});
