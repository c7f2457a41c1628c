/** add, mul, scale, silu, gelu, swiglu, cast: values and gradients against float64, odd sizes, broadcasting, bad input. */
import { afterAll, describe, expect, test } from "vitest";
import { type DType, memory, ops, setThreads, Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import { testDevices } from "../support/devices.ts";
import { expectError } from "../support/errors.ts";
import { gradcheck } from "../support/gradcheck.ts";
import * as oracle from "../support/oracle.ts";
import { cotangent, normal, roundBfloat16, uniform } from "../support/random.ts";
import { assertBitwiseEqual, assertClose, float32Steps, storeRounding } from "../support/tolerance.ts";

const floats = ["float32", "bfloat16"] as const;
// 1 and primes leave tails at every vector width; 20011 spans two tasks.
const sizes = [0, 1, 3, 17, 131];

const unary = {
  scale: { op: (x: Tensor) => ops.scale(x, -1.75), oracle: (x: Float64Array) => oracle.scale(x, -1.75), steps: 1 },
  // exp within 1.5 ulp, of an argument that is exact; a sum, a division, a product: 6 roundings.
  silu: { op: ops.silu, oracle: oracle.silu, steps: 8 },
  // The argument of exp is up to 2 · 9 in magnitude where its sigmoid still matters and carries 3 roundings of it.
  gelu: { op: ops.gelu, oracle: oracle.gelu, steps: 8 + 3 * 18 },
};

describe.each(testDevices)("elementwise on %s", (device) => {
  const live = memory().tensors;
  afterAll(() => expect(memory().tensors).toBe(live));

  describe.each(floats)("%s", (dtype) => {
    for (const [name, { op, oracle: reference, steps }] of Object.entries(unary))
      test.each(sizes)(`${name}, %i elements`, (size) => {
        const x = { name: "x", shape: [size], values: uniform(size, -6, 6, size + 1), dtype };
        const tolerance = {
          relative: float32Steps(steps) + storeRounding(dtype),
          // Slopes: 1 + x (1 − σ) cancels near its zero; its terms are at most 6.
          absolute: float32Steps(2 * 6),
        };
        // h = 1e-3: h⁴/30 · f⁽⁵⁾ is below 1e-12 for these functions.
        gradcheck({ inputs: [x], op, oracle: reference, value: tolerance, gradient: scaled2(tolerance), device });
      });

    test.each(sizes)("swiglu, %i elements", (size) => {
      const tolerance = {
        relative: float32Steps(9) + storeRounding(dtype),
        absolute: float32Steps(2 * 6 * 2),
      };
      gradcheck({
        inputs: [
          { name: "gate", shape: [size], values: uniform(size, -6, 6, 1), dtype },
          { name: "up", shape: [size], values: uniform(size, -2, 2, 2), dtype },
        ],
        op: ops.swiglu,
        oracle: oracle.swiglu,
        value: tolerance,
        gradient: scaled2(tolerance),
        device,
      });
    });

    const shapes: [number[], number[]][] = [
      [
        [5, 7],
        [5, 7],
      ],
      [[5, 7], [7]],
      [
        [3, 5, 7],
        [5, 7],
      ],
      [[131, 3], [3]],
      [[4, 5], []],
      [
        [2, 1, 33],
        [1, 33],
      ],
      [[0, 7], [7]],
      [[3, 0], [0]],
      [[1], []],
    ];
    for (const name of ["add", "mul"] as const)
      test.each(shapes)(`${name} %j and %j`, (a, b) => {
        const count = (shape: number[]) => shape.reduce((x, y) => x * y, 1);
        const repeats = count(a) / Math.max(1, count(b));
        gradcheck({
          inputs: [
            { name: "a", shape: a, values: normal(count(a), 1, 3), dtype },
            // A sum of `repeats` terms, each at most 8 or so in magnitude.
            {
              name: "b",
              shape: b,
              values: normal(count(b), 1, 4),
              dtype,
              gradient: { relative: storeRounding(dtype), absolute: float32Steps(repeats * 8) },
            },
          ],
          op: ops[name],
          oracle: name === "add" ? oracle.add : oracle.mul,
          value: { relative: storeRounding(dtype) },
          gradient: { relative: storeRounding(dtype) },
          device,
        });
      });
  });

  test("the bits do not depend on the number of threads, on the run, or on the place in the tensor", () => {
    const size = 20011;
    const values = normal(size + 5, 2, 9);
    const run = (op: (x: Tensor) => Tensor, from: number, to: number) =>
      tidy(() => op(Tensor.from(values.slice(from, to), [to - from], { device })).dataSync() as Float32Array);
    const functions = [
      ops.silu,
      ops.gelu,
      (x: Tensor) => ops.swiglu(x, x),
      (x: Tensor) => ops.mul(x, x),
      (x: Tensor) => ops.add(x, x),
      (x: Tensor) => valueAndGrad(() => ops.sum(ops.gelu(x)), [x])[1][0]!,
      (x: Tensor) => valueAndGrad(() => ops.sum(ops.silu(x)), [x])[1][0]!,
    ];
    for (const op of functions) {
      setThreads(1);
      const one = run(op, 0, size);
      setThreads(2);
      const two = run(op, 0, size);
      assertBitwiseEqual(two, one, "2 threads");
      assertBitwiseEqual(run(op, 0, size), one, "second run");
      assertBitwiseEqual(run(op, 3, size), one.slice(3), "shifted by 3");
    }
  });

  test("a broadcast gradient has the same bits at 1 and 2 threads", () => {
    const run = () =>
      tidy(() => {
        const a = Tensor.from(normal(3001 * 37, 1, 1), [3001, 37], { device });
        const b = Tensor.from(normal(37, 1, 2), [37], { device });
        return valueAndGrad(() => ops.sum(ops.mul(ops.mul(a, b), a)), [b])[1][0]!.dataSync() as Float32Array;
      });
    setThreads(1);
    const one = run();
    setThreads(2);
    assertBitwiseEqual(run(), one);
  });

  test("extremes: saturated activations are finite and NaN passes through", () => {
    const x = Float32Array.of(-1e4, -100, 100, 1e4, Number.NaN, 0);
    tidy(() => {
      const t = Tensor.from(x, [6], { device });
      for (const op of [ops.silu, ops.gelu]) {
        expect([...op(t).dataSync()].map(Math.fround)).toEqual([-0, -0, 100, 1e4, Number.NaN, 0]);
        const [, [g]] = valueAndGrad(() => ops.sum(op(t)), [t]);
        expect([...g!.dataSync()].slice(0, 4)).toEqual([0, 0, 1, 1].map((v) => expect.closeTo(v, 6)));
        expect(g!.dataSync()[4]).toBeNaN();
        expect(g!.dataSync()[5]).toBe(0.5);
      }
    });
  });

  test("only wanted gradients are computed, and an argument used twice gets both", () => {
    tidy(() => {
      const a = Tensor.from([1, 2, 3], [3], { device });
      const b = Tensor.from([4, 5, 6], [3], { device });
      const [, [gb]] = valueAndGrad(() => ops.sum(ops.mul(a, b)), [b]);
      expect([...gb!.dataSync()]).toEqual([1, 2, 3]);
      const [, [ga]] = valueAndGrad(() => ops.sum(ops.mul(a, a)), [a]);
      expect([...ga!.dataSync()]).toEqual([2, 4, 6]);
      const [, [g2]] = valueAndGrad(() => ops.sum(ops.add(a, a)), [a]);
      expect([...g2!.dataSync()]).toEqual([2, 2, 2]);
      const [, [gate]] = valueAndGrad(() => ops.sum(ops.swiglu(a, b)), [a]);
      expect(gate!.size).toBe(3);
    });
  });

  describe("cast", () => {
    test("between floats: bits, and a gradient cast back", () => {
      const values = normal(1027, 3, 5);
      const c = cotangent(1027, 6);
      tidy(() => {
        const x = Tensor.from(values, [13, 79], { device });
        const narrow = ops.cast(x, "bfloat16");
        expect(narrow.dtype).toBe("bfloat16");
        assertBitwiseEqual(narrow.dataSync() as Float32Array, values.map(roundBfloat16));
        const [, [g]] = valueAndGrad(
          () => ops.sum(ops.mul(ops.cast(ops.cast(x, "bfloat16"), "float32"), Tensor.from(c, x.shape, { device }))),
          [x],
        );
        expect(g!.dtype).toBe("float32");
        assertBitwiseEqual(g!.dataSync() as Float32Array, c);
      });
    });

    test("to int32 truncates, clamps, and passes no gradient", () => {
      tidy(() => {
        const values = [0, 1.9, -1.9, 2.5, 3e9, -3e9, Number.NaN, Infinity, -Infinity];
        const want = [0, 1, -1, 2, 2 ** 31 - 1, -(2 ** 31), 0, 2 ** 31 - 1, -(2 ** 31)];
        const x = Tensor.from(values, undefined, { device });
        expect([...ops.cast(x, "int32").dataSync()]).toEqual(want);
        const short = ops.cast(Tensor.from([1.9, -7.5], undefined, { dtype: "bfloat16", device }), "int32");
        expect([...short.dataSync()]).toEqual([1, -7]);
        const [, [g]] = valueAndGrad(() => ops.sum(ops.cast(ops.cast(x, "int32"), "float32")), [x]);
        expect([...g!.dataSync()]).toEqual(values.map(() => 0));
      });
    });

    test("int32 to floats is rounded once", () => {
      // 2^24 + 2^16 + 1 is just above a tie of bfloat16; through float32 it would become the tie and round to even.
      const values = Int32Array.of(0, 1, -1, 2 ** 24 + 2 ** 16 + 1, -(2 ** 24) - 2 ** 16 - 1, 2 ** 31 - 1, -(2 ** 31));
      tidy(() => {
        const x = Tensor.from(values, undefined, { device });
        assertClose(ops.cast(x, "float32").dataSync(), values, { relative: float32Steps(1) });
        const up = 2 ** 24 + 2 ** 17;
        expect([...ops.cast(x, "bfloat16").dataSync()]).toEqual([0, 1, -1, up, -up, 2 ** 31, -(2 ** 31)]);
      });
    });

    test("the same dtype shares memory and keeps the gradient", () => {
      tidy(() => {
        const x = Tensor.from([1, 2], undefined, { device });
        const before = memory().bytes;
        const y = ops.cast(x, "float32");
        expect(memory().bytes).toBe(before);
        expect([...y.dataSync()]).toEqual([1, 2]);
        expect(ops.cast(Tensor.zeros([0], { device }), "bfloat16").size).toBe(0);
      });
    });
  });

  test("bad input names the function, the argument, and what is wanted", () => {
    tidy(() => {
      const x = Tensor.zeros([2, 3], { device });
      const ints = Tensor.zeros([2, 3], { dtype: "int32", device });
      const half = Tensor.zeros([2, 3], { dtype: "bfloat16", device });
      const gone = Tensor.zeros([2, 3], { device });
      gone.dispose();
      for (const name of ["add", "mul"] as const) {
        const op = ops[name];
        expectError(
          () => op(x, Tensor.zeros([2], { device })),
          "ShapeError",
          "ERR_SHAPE",
          new RegExp(`^${name}: b has shape \\[2\\]`),
        );
        expectError(() => op(Tensor.zeros([3], { device }), x), "ShapeError", "ERR_SHAPE", /b has/);
        expectError(() => op(x, half), "DTypeError", "ERR_DTYPE", /b is bfloat16, want float32/);
        expectError(() => op(ints, ints), "DTypeError", "ERR_DTYPE", /a is int32/);
        expectError(() => op(gone, x), "DisposedError", "ERR_DISPOSED", /a was disposed/);
        expectError(() => op(x, 3 as never), "TypeError", "ERR_TYPE", /b is 3, want a Tensor/);
      }
      for (const name of ["silu", "gelu"] as const) {
        expectError(() => ops[name](ints), "DTypeError", "ERR_DTYPE", new RegExp(`^${name}: x is int32`));
        expectError(() => ops[name](gone), "DisposedError", "ERR_DISPOSED", /x was disposed/);
      }
      expectError(
        () => ops.swiglu(x, Tensor.zeros([3], { device })),
        "ShapeError",
        "ERR_SHAPE",
        /^swiglu: up has shape \[3\], want \[2, 3\]/,
      );
      for (const bad of [Number.NaN, Infinity, "2", undefined])
        expectError(() => ops.scale(x, bad as number), "RangeError", "ERR_RANGE", /^scale: factor is/);
      expectError(() => ops.cast(x, "float64" as DType), "DTypeError", "ERR_DTYPE", /dtype is float64/);
    });
  });
});

/** Gradients here are a cotangent of magnitude below 2 times a slope. */
function scaled2(t: { relative: number; absolute: number }) {
  return { relative: t.relative + float32Steps(1), absolute: 2 * t.absolute };
}
