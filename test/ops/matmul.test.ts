import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { type DType, ops, Tensor, tidy } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { sizeFor, testDevices } from "../support/devices.ts";
import { linearOracle, type MatmulExtents, matmulOracle } from "../support/oracle_matrix.ts";
import { assertSameAtAnyThreads, checkOp, pullback } from "../support/pullback.ts";
import { cotangent, rounded, uniform } from "../support/random.ts";
import { assertBitwiseEqual, assertClose, float32Steps, storeRounding } from "../support/tolerance.ts";

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

  // Beyond one tile (CPU: 256, CUDA: 64 or 128) and several slices of k, in extents that no tile divides; multiples of 8,
  // whose rows CUDA loads 16 bytes at a time, and others.
  const spans: [MatmulExtents, DType, DType][] = [
    [{ m: 300, n: 531, k: 37 }, "float32", "float32"],
    [{ m: 531, n: 40, k: 300, transposeA: true }, "float32", "float32"],
    [{ m: 97, n: 270, k: 601, transposeB: true }, "float32", "float32"],
    [{ m: 259, n: 259, k: 259, transposeA: true, transposeB: true }, "float32", "float32"],
    [{ batch: 3, m: 200, n: 136, k: 72 }, "bfloat16", "float32"],
    [{ m: 200, n: 72, k: 136, transposeA: true, transposeB: true }, "float32", "bfloat16"],
  ];
  for (const transposeA of [false, true])
    for (const transposeB of [false, true])
      for (const e of [
        { m: 248, n: 376, k: 136 },
        { m: 250, n: 381, k: 101 },
        { batch: 3, m: 72, n: 80, k: 40 },
      ])
        spans.push([{ ...e, transposeA, transposeB }, "bfloat16", "bfloat16"]);
  test.each(spans)("%j of %s and %s spans tiles", (e, dtypeA, dtypeB) => {
    const { batch = 1, m, n, k, transposeA, transposeB } = e;
    const [a, b] = [uniform(batch * m * k, -1, 1, 3), uniform(batch * k * n, -1, 1, 4)];
    const y = tidy(() =>
      ops
        .matmul(
          Tensor.from(a, [batch, ...(transposeA ? [k, m] : [m, k])], { device, dtype: dtypeA }),
          Tensor.from(b, [batch, ...(transposeB ? [n, k] : [k, n])], { device, dtype: dtypeB }),
          { transposeA, transposeB },
        )
        .dataSync(),
    );
    assertClose(y, matmulOracle(rounded(a, dtypeA), rounded(b, dtypeB), e), sumOf(k, 1, dtypeA));
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
    const [m, k, n] = sizeFor(device, [600, 130, 520], [150, 70, 260]) as [number, number, number];
    const [a, b] = [uniform(m * k, -1, 1, 5), uniform(k * n, -1, 1, 6)];
    assertSameAtAnyThreads(() =>
      tidy(() => {
        const [x, y] = [Tensor.from(a, [m, k], { device }), Tensor.from(b, [k, n], { device })];
        const { value, grads } = pullback(() => ops.matmul(x, y), [x, y], cotangent(m * n, 7));
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

// Libraries choose their kernel by the extents: only our own can promise this.
describe.each(testDevices.filter((device) => device === "cuda-emulated" && !process.env.BIRKHOFF_CUBLAS))(
  "the built-in product on %s",
  (device) => {
    test.each([
      ["float32", "float32"],
      ["bfloat16", "bfloat16"],
      ["bfloat16", "float32"],
    ] as [DType, DType][])("a row of %s and %s has the same bits alone and among others", (dtypeA, dtypeB) => {
      const [m, n, k] = [260, 250, 70];
      const [a, b] = [uniform(m * k, -1, 1, 8), uniform(k * n, -1, 1, 9)];
      const rows = (values: Float32Array) =>
        tidy(() => {
          const left = Tensor.from(values, [values.length / k, k], { device, dtype: dtypeA });
          return ops.matmul(left, Tensor.from(b, [k, n], { device, dtype: dtypeB })).dataSync();
        }) as Float32Array;
      const all = rows(a);
      for (const [first, count] of [
        [0, 1],
        [129, 1],
        [200, 60],
      ] as [number, number][])
        assertBitwiseEqual(
          rows(a.subarray(first * k, (first + count) * k)),
          all.subarray(first * n, (first + count) * n),
          `rows from ${first}`,
        );
    });

    test("infinities and subnormal numbers of float32 keep their meaning", () => {
      tidy(() => {
        const x = Tensor.from([Infinity, 1e-30, 3.4e38, 1e-40], [4, 1], { device });
        const y = ops.matmul(x, Tensor.from([1.1, 1e-10], [1, 2], { device })).dataSync();
        const expected = [Infinity, 1e-30, 3.4e38, 1e-40].flatMap((v) =>
          [1.1, 1e-10].map((w) => Math.fround(Math.fround(v) * Math.fround(w))),
        );
        expect([...y]).toEqual(expected);
      });
    });
  },
);

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
    [
      "node_modules/vitest/vitest.mjs",
      "run",
      "test/ops/matmul.test.ts",
      "test/ops/attention.test.ts",
      "-t",
      "on cpu|BIRKHOFF_GEMM",
    ],
    { env: { ...process.env, BIRKHOFF_GEMM: "builtin" }, stdio: "pipe" },
  );
});
