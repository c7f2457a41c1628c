import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { type DType, ops, Tensor, tidy } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { testDevices } from "../support/devices.ts";
import { linearOracle, type MatmulExtents, matmulOracle } from "../support/oracle_matrix.ts";
import { assertSameAtAnyThreads, checkOp, pullback } from "../support/pullback.ts";
import { cotangent, rounded, uniform } from "../support/random.ts";
import { assertClose, float32Steps, storeRounding } from "../support/tolerance.ts";

// A sum of k products of values below 1 (below 2 for a cotangent) in any order: k + 1 roundings, each of at most the sum of the
// magnitudes; then the rounding of what is stored.
const sumOf = (k: number, largest: number, dtype: DType) => ({
  absolute: float32Steps(k + 1) * k * largest,
  relative: storeRounding(dtype),
});

const throwsWith = (fn: () => unknown, code: string, message: RegExp) => {
  expect(fn).toThrow(message);
  expect(fn).toThrow(expect.objectContaining({ code }));
};

describe.each(testDevices)("matmul on %s", (device) => {
  const cases: [MatmulExtents, DType, DType][] = [];
  for (const transposeA of [false, true])
    for (const transposeB of [false, true]) {
      cases.push([{ batch: 3, m: 7, n: 19, k: 5, transposeA, transposeB }, "float32", "float32"]);
      cases.push([{ batch: 2, m: 5, n: 17, k: 9, transposeA, transposeB }, "bfloat16", "float32"]);
      cases.push([{ m: 13, n: 6, k: 33, transposeA, transposeB }, "bfloat16", "bfloat16"]);
    }
  cases.push([{ m: 1, n: 1, k: 1 }, "float32", "bfloat16"]);
  test.each(cases)("%j of %s and %s", (e, dtypeA, dtypeB) => {
    const { batch = 1, m, n, k, transposeA = false, transposeB = false } = e;
    checkOp({
      inputs: [
        {
          name: "a",
          shape: [batch, ...(transposeA ? [k, m] : [m, k])],
          values: uniform(batch * m * k, -1, 1, 1),
          dtype: dtypeA,
          gradient: sumOf(n, 2, dtypeA),
        },
        {
          name: "b",
          shape: [batch, ...(transposeB ? [n, k] : [k, n])],
          values: uniform(batch * k * n, -1, 1, 2),
          dtype: dtypeB,
          gradient: sumOf(m, 2, dtypeB),
        },
      ],
      op: (a, b) => ops.matmul(a!, b!, { transposeA, transposeB }),
      oracle: (a, b) => matmulOracle(a!, b!, e),
      value: sumOf(k, 1, dtypeA),
      gradient: {},
      device,
    });
  });

  // Beyond one tile of 256 and one block of k, in extents that no tile divides.
  test.each([
    [{ m: 300, n: 531, k: 37 }],
    [{ m: 531, n: 40, k: 300, transposeA: true }],
    [{ m: 97, n: 270, k: 601, transposeB: true }],
    [{ m: 259, n: 259, k: 259, transposeA: true, transposeB: true }],
  ] as [MatmulExtents][])("%j spans tiles", (e) => {
    const [a, b] = [uniform(e.m * e.k, -1, 1, 3), uniform(e.k * e.n, -1, 1, 4)];
    const y = tidy(() =>
      ops
        .matmul(
          Tensor.from(a, e.transposeA ? [e.k, e.m] : [e.m, e.k], { device }),
          Tensor.from(b, e.transposeB ? [e.n, e.k] : [e.k, e.n], { device }),
          e,
        )
        .dataSync(),
    );
    assertClose(y, matmulOracle(Float64Array.from(a), Float64Array.from(b), e), sumOf(e.k, 1, "float32"));
  });

  test("an inner extent of 0 gives zeros, outer ones of 0 nothing", () => {
    tidy(() => {
      const from = (shape: number[]) => Tensor.from([], shape, { device });
      expect([...ops.matmul(from([2, 3, 0]), from([2, 0, 2])).dataSync()]).toEqual(new Array(12).fill(0));
      expect(ops.matmul(from([0, 3]), Tensor.from([1, 2, 3], [3, 1], { device })).shape).toEqual([0, 1]);
      expect(ops.matmul(from([0, 3, 2]), from([0, 2, 5])).dataSync()).toHaveLength(0);
    });
  });

  test("the same bits at any thread count", () => {
    const [a, b] = [uniform(600 * 130, -1, 1, 5), uniform(130 * 520, -1, 1, 6)];
    assertSameAtAnyThreads(() =>
      tidy(() => {
        const [x, y] = [Tensor.from(a, [600, 130], { device }), Tensor.from(b, [130, 520], { device })];
        const { value, grads } = pullback(() => ops.matmul(x, y), [x, y], cotangent(600 * 520, 7));
        return [value, ...grads];
      }),
    );
  });

  test("says what is wrong", () => {
    tidy(() => {
      const a = Tensor.from(new Float32Array(6), [2, 3], { device });
      throwsWith(() => ops.matmul(a, a), "ERR_SHAPE", /matmul: b is a float32 tensor \[2, 3\], want \[3, 3\]/);
      throwsWith(() => ops.matmul(a, Tensor.from([1, 2, 3])), "ERR_SHAPE", /matmul: b has shape \[3\]/);
      throwsWith(() => ops.matmul(a, 3 as unknown as Tensor), "ERR_TYPE", /matmul: b is 3/);
      throwsWith(() => ops.matmul(Tensor.from(new Int32Array(6), [2, 3]), a), "ERR_DTYPE", /matmul: a is int32/);
      a.dispose();
      throwsWith(() => ops.matmul(a, a), "ERR_DISPOSED", /matmul: a was disposed/);
    });
  });
});

describe.each(testDevices)("linear on %s", (device) => {
  test.each([
    [[3, 4], 5, 6, "float32", "float32", true],
    [[11], 17, 9, "bfloat16", "float32", true],
    [[70], 33, 35, "bfloat16", "bfloat16", true],
    [[2, 1, 3], 1, 8, "float32", "bfloat16", false],
  ] as [number[], number, number, DType, DType, boolean][])(
    "x [%j, %d] to %d, %s, weight %s, bias %s",
    (leading, inputs, outputs, dtype, weightDtype, hasBias) => {
      const rows = leading.reduce((a, b) => a * b, 1);
      const bias = {
        name: "bias",
        shape: [outputs],
        values: uniform(outputs, -1, 1, 3),
        gradient: sumOf(rows, 2, "float32"),
      };
      checkOp({
        inputs: [
          {
            name: "x",
            shape: [...leading, inputs],
            values: uniform(rows * inputs, -1, 1, 1),
            dtype,
            gradient: sumOf(outputs, 2, dtype),
          },
          {
            name: "weight",
            shape: [outputs, inputs],
            values: uniform(outputs * inputs, -1, 1, 2),
            dtype: weightDtype,
            gradient: sumOf(rows, 2, weightDtype),
          },
          ...(hasBias ? [bias] : []),
        ],
        op: (x, weight, b) => ops.linear(x!, weight!, b),
        oracle: (x, weight, b) => linearOracle(x!, weight!, b, inputs, outputs),
        value: sumOf(inputs + 1, 1, dtype),
        gradient: {},
        device,
      });
    },
  );

  test("no tokens: empty result, zero gradients", () => {
    tidy(() => {
      const x = Tensor.from([], [0, 4], { device });
      const weight = Tensor.from(uniform(12, -1, 1, 1), [3, 4], { device });
      const bias = Tensor.from([1, 2, 3], [3], { device });
      const { value, grads } = pullback(() => ops.linear(x, weight, bias), [x, weight, bias], new Float32Array(0));
      expect(value).toHaveLength(0);
      expect(grads.map((g) => [...g!])).toEqual([[], new Array(12).fill(0), [0, 0, 0]]);
    });
  });

  test("the bias gradient sums thousands of rows the same way at any thread count", () => {
    const rows = 5003;
    const seeds = cotangent(rows * 3, 1);
    const compute = () =>
      tidy(() => {
        const x = Tensor.from(new Float32Array(rows), [rows, 1], { device });
        const [weight, bias] = [Tensor.from([1, 2, 3], [3, 1], { device }), Tensor.from([0, 0, 0], [3], { device })];
        return pullback(() => ops.linear(x, weight, bias), [bias], seeds).grads;
      });
    const expected = [0, 1, 2].map((j) => seeds.reduce((sum, g, i) => (i % 3 === j ? sum + g : sum), 0));
    // Cotangents are multiples of 1/64, so that sums below 2^18 are exact: no row may be lost or counted twice.
    expect([...compute()[0]!]).toEqual(expected);
    assertSameAtAnyThreads(compute);
  });

  test("gradients only where wanted", () => {
    tidy(() => {
      const [x, weight] = [Tensor.from([1, 2], [1, 2], { device }), Tensor.from([3, 4], [1, 2], { device })];
      const { grads } = pullback(() => ops.linear(x, weight), [weight], Float32Array.of(2));
      expect([...grads[0]!]).toEqual([2, 4]);
    });
  });

  test("a bfloat16 result is rounded once", () => {
    // 256 + 1 + 1: rounding after each step would stay at 256, the sum rounded once is 258.
    tidy(() => {
      const x = Tensor.from([256, 1, 1], [1, 3], { dtype: "bfloat16", device });
      const weight = Tensor.from([1, 1, 1], [1, 3], { dtype: "bfloat16", device });
      expect(ops.linear(x, weight).dataSync()[0]).toBe(rounded([258], "bfloat16")[0]);
    });
  });

  test("says what is wrong", () => {
    tidy(() => {
      const x = Tensor.from(new Float32Array(6), [2, 3], { device });
      const weight = Tensor.from(new Float32Array(12), [4, 3], { device });
      throwsWith(
        () => ops.linear(x, x.view([3, 2])),
        "ERR_SHAPE",
        /linear: weight has shape \[3, 2\], want \[out, 3\]/,
      );
      throwsWith(() => ops.linear(x, weight, x), "ERR_SHAPE", /linear: bias has shape \[2, 3\], want \[4\]/);
      throwsWith(() => ops.linear(x, Tensor.from(new Int32Array(12), [4, 3])), "ERR_DTYPE", /linear: weight is int32/);
    });
  });
});

test("BIRKHOFF_GEMM=builtin: the built-in product passes the same tests", () => {
  if (process.env.BIRKHOFF_GEMM) {
    expect(native.info().gemm).toBe("built-in");
    return;
  }
  execFileSync(
    process.execPath,
    ["node_modules/vitest/vitest.mjs", "run", "test/ops/matmul.test.ts", "test/ops/attention.test.ts"],
    { env: { ...process.env, BIRKHOFF_GEMM: "builtin" }, stdio: "pipe" },
  );
});
