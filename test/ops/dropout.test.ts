import { describe, expect, test } from "vitest";
import { type DType, ops, setSeed, Tensor, tidy } from "../../lib/index.ts";
import { testDevices } from "../support/devices.ts";
import { dropoutMask, philoxOracle } from "../support/oracle_matrix.ts";
import { assertSameAtAnyThreads, checkOp, pullback } from "../support/pullback.ts";
import { cotangent, uniform } from "../support/random.ts";
import { float32Steps, storeRounding } from "../support/tolerance.ts";

test("the reference generator gives the published words", () => {
  // kat_vectors of Random123 for philox4x32, 10 rounds.
  expect(philoxOracle([0n, 0n, 0n, 0n], [0n, 0n])).toEqual([0x6627e8d5n, 0xe169c58dn, 0xbc57ac4cn, 0x9b00dbd8n]);
  const ones = 0xffffffffn;
  expect(philoxOracle([ones, ones, ones, ones], [ones, ones])).toEqual([
    0x408f276dn,
    0x41c83b0en,
    0xa20bc7c6n,
    0x6d5451fdn,
  ]);
});

describe.each(testDevices)("dropout on %s", (device) => {
  test.each([
    [1, 0.5, 0, "float32"],
    [203, 0.1, 12345, "float32"],
    [203, 0.7, 2 ** 53 - 1, "bfloat16"],
    [64, 0, 3, "float32"],
    [67, 1, 3, "float32"],
  ] as [number, number, number, DType][])("%d elements, p %d, seed %d, %s", (size, p, seed, dtype) => {
    const mask = dropoutMask(size, p, seed);
    // The scale and the product, each rounded once, and the store. The differences err by their own 1e-12, scaled.
    const tolerance = { relative: float32Steps(2) + storeRounding(dtype), absolute: 2 ** -30 };
    checkOp({
      inputs: [{ name: "x", shape: [size], values: uniform(size, 1, 2, 1), dtype }],
      op: (x) => ops.dropout(x!, p, { seed }),
      oracle: (x) => x!.map((v, i) => (mask[i] ? v / (1 - p) : 0)),
      value: tolerance,
      gradient: tolerance,
      device,
    });
  });

  test("keeps about 1 − p of many elements; another seed keeps others", () => {
    const [size, p] = [100_000, 0.3];
    const kept = (seed: number) =>
      tidy(() => {
        const x = Tensor.from(new Float32Array(size).fill(1), [size], { device });
        return Array.from(ops.dropout(x, p, { seed }).dataSync(), (v) => v !== 0);
      });
    const [a, b] = [kept(1), kept(2)];
    const count = a.filter(Boolean).length;
    // Binomial: five standard deviations.
    expect(Math.abs(count - size * (1 - p))).toBeLessThan(5 * Math.sqrt(size * p * (1 - p)));
    // Two independent masks agree with probability p² + (1 − p)².
    const agree = p ** 2 + (1 - p) ** 2;
    const same = a.filter((v, i) => v === b[i]).length;
    expect(Math.abs(same - size * agree)).toBeLessThan(5 * Math.sqrt(size * agree * (1 - agree)));
  });

  test("setSeed makes the sequence of masks repeatable", () => {
    const draw = () =>
      tidy(() => {
        const x = Tensor.from(new Float32Array(64).fill(1), [64], { device });
        return [ops.dropout(x, 0.5).dataSync(), ops.dropout(x, 0.5).dataSync()];
      });
    setSeed(9);
    const [first, second] = draw();
    setSeed(9);
    expect(draw()).toEqual([first, second]);
    expect(second).not.toEqual(first);
  });

  test("the same bits at any thread count; nothing of nothing; a dropped NaN is 0", () => {
    const values = uniform(70_001, -1, 1, 1);
    assertSameAtAnyThreads(() =>
      tidy(() => {
        const x = Tensor.from(values, [70_001], { device });
        const { value, grads } = pullback(() => ops.dropout(x, 0.2, { seed: 4 }), [x], cotangent(70_001, 2));
        return [value, ...grads];
      }),
    );
    tidy(() => {
      expect(ops.dropout(Tensor.from([], [0, 2], { device }), 0.5).dataSync()).toHaveLength(0);
      expect([...ops.dropout(Tensor.from([Number.NaN, 1], [2], { device }), 1).dataSync()]).toEqual([0, 0]);
    });
  });

  test("says what is wrong", () => {
    tidy(() => {
      const x = Tensor.from([1, 2], [2], { device });
      const cases: [() => unknown, string, RegExp][] = [
        [() => ops.dropout(x, 1.5), "ERR_RANGE", /dropout: p is 1.5, want a finite number at least 0 and at most 1/],
        [() => ops.dropout(x, 0.5, { seed: -1 }), "ERR_RANGE", /dropout: options.seed is -1/],
        [() => ops.dropout(Tensor.from(Int32Array.of(1), [1], { device }), 0.5), "ERR_DTYPE", /dropout: x is int32/],
      ];
      for (const [fn, code, message] of cases) {
        expect(fn).toThrow(message);
        expect(fn).toThrow(expect.objectContaining({ code }));
      }
    });
  });
});
