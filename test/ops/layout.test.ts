/** reshape, transpose, slice, split, concat: elements, gradients, views, bad input. */
import { afterAll, describe, expect, test } from "vitest";
import { type DType, memory, ops, setThreads, Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { testDevices } from "../support/devices.ts";
import { expectError } from "../support/errors.ts";
import { gradcheck } from "../support/gradcheck.ts";
import * as oracle from "../support/oracle.ts";
import { integers, normal, rounded } from "../support/random.ts";
import { assertClose, float32Steps } from "../support/tolerance.ts";

const count = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
// Moving elements rounds nothing; the differences of a linear function in float64 are exact to about 1e-12.
const exact = { value: {}, gradient: { absolute: 1e-10 } };

describe.each(testDevices)("layout on %s", (device) => {
  const live = memory().tensors;
  afterAll(() => expect(memory().tensors).toBe(live));

  const permutations: [number[], number[]][] = [
    [[5], [0]],
    [
      [3, 5],
      [1, 0],
    ],
    [
      [3, 5],
      [0, 1],
    ],
    [
      [1, 7],
      [1, 0],
    ],
    [
      [2, 3, 4, 5],
      [0, 2, 1, 3],
    ],
    [
      [2, 3, 3, 4, 5],
      [2, 0, 3, 1, 4],
    ],
    [
      [2, 3, 4, 8],
      [0, 2, 1, 3],
    ],
    [
      [2, 3, 4, 5],
      [0, 1, 3, 2],
    ],
    [
      [2, 3, 4, 5],
      [3, 2, 1, 0],
    ],
    [
      [4, 2, 3],
      [-1, 0, 1],
    ],
    [
      [2, 1, 2, 1, 2, 1, 3, 2],
      [7, 0, 6, 1, 5, 2, 4, 3],
    ],
    [
      [0, 3],
      [1, 0],
    ],
    [[], []],
  ];
  for (const dtype of ["float32", "bfloat16"] as const)
    test.each(permutations)(`transpose ${dtype} %j by %j`, (shape, permutation) => {
      const forward = permutation.map((axis) => (axis < 0 ? axis + shape.length : axis));
      gradcheck({
        inputs: [{ name: "x", shape, values: normal(count(shape), 1, 1), dtype }],
        op: (x) => ops.transpose(x!, permutation),
        oracle: (x) => oracle.transpose(x!, shape, forward),
        ...exact,
        device,
      });
    });

  test.each([
    [
      [67, 131],
      [1, 0],
    ],
    [
      [2, 100, 65],
      [0, 2, 1],
    ],
    [
      [129, 3, 70],
      [2, 1, 0],
    ],
    [
      [3, 200, 500],
      [1, 0, 2],
    ],
    [
      [2, 70000],
      [1, 0],
    ],
  ])("large transpose of %j by %j, every dtype, at 1 and 2 threads", (shape, permutation) => {
    const values = integers(count(shape), 128, 3);
    const want = [...oracle.transpose(Float64Array.from(values), shape, permutation)];
    for (const dtype of ["float32", "bfloat16", "int32"] as DType[])
      for (const threads of [1, 2]) {
        setThreads(threads);
        tidy(() => {
          const y = ops.transpose(ops.cast(Tensor.from(values, shape, { device }), dtype), permutation);
          expect(y.shape).toEqual(permutation.map((axis) => shape[axis]));
          assertClose(y.dataSync(), want, { label: dtype });
        });
      }
  });

  test("transpose swaps the last two axes by default", () => {
    tidy(() => {
      const x = Tensor.from([1, 2, 3, 4, 5, 6], [1, 2, 3], { device });
      const y = ops.transpose(x);
      expect(y.shape).toEqual([1, 3, 2]);
      expect([...y.dataSync()]).toEqual([1, 4, 2, 5, 3, 6]);
    });
  });

  const slices: [number[], number, number, number][] = [
    [[7], 0, 2, 5],
    [[5, 7], 0, 1, 4],
    [[5, 7], 1, 3, 4],
    [[5, 7], -1, 0, 7],
    [[2, 3, 5], 1, 1, 3],
    [[1, 3, 5], 1, 1, 3],
    [[5, 7], 1, 3, 3],
    [[0, 7], 1, 1, 3],
  ];
  for (const dtype of ["float32", "bfloat16"] as const)
    test.each(slices)(`slice ${dtype} %j axis %i from %i to %i`, (shape, axis, start, end) => {
      gradcheck({
        inputs: [{ name: "x", shape, values: normal(count(shape), 1, 2), dtype }],
        op: (x) => ops.slice(x!, axis, start, end),
        oracle: (x) => oracle.slice(x!, shape, axis < 0 ? axis + shape.length : axis, start, end),
        ...exact,
        device,
      });
    });

  test.each([
    [[6, 5], 3, 0],
    [[2, 6, 5], 2, 1],
    [[3, 8], 4, -1],
    [[3, 0], 4, 1],
  ])("split of %j into %i along %i", (shape, parts, axis) => {
    const at = axis < 0 ? axis + shape.length : axis;
    const extent = shape[at]! / parts;
    gradcheck({
      inputs: [{ name: "x", shape, values: normal(count(shape), 1, 2) }],
      op: (x) => ops.split(x!, parts, axis),
      oracle: (x) => Array.from({ length: parts }, (_, i) => oracle.slice(x!, shape, at, i * extent, (i + 1) * extent)),
      ...exact,
      device,
    });
  });

  test("parts of a split that the loss does not use count as zeros", () => {
    tidy(() => {
      const x = Tensor.from([1, 2, 3, 4, 5, 6], [2, 3], { device });
      const [, [g]] = valueAndGrad(() => ops.sum(ops.split(x, 3, 1)[1]!), [x]);
      expect([...g!.dataSync()]).toEqual([0, 1, 0, 0, 1, 0]);
      const [, [rows]] = valueAndGrad(() => ops.sum(ops.split(x, 2)[1]!), [x]);
      expect([...rows!.dataSync()]).toEqual([0, 0, 0, 1, 1, 1]);
    });
  });

  test.each([
    [
      [
        [2, 3],
        [4, 3],
      ],
      0,
    ],
    [
      [
        [2, 3],
        [2, 1],
        [2, 5],
      ],
      1,
    ],
    [
      [
        [2, 1, 3],
        [2, 4, 3],
      ],
      -2,
    ],
    [
      [
        [2, 3],
        [0, 3],
        [1, 3],
      ],
      0,
    ],
    [[[3]], 0],
  ] as [number[][], number][])("concat of %j along %i", (shapes, axis) => {
    for (const dtype of ["float32", "bfloat16"] as const)
      gradcheck({
        inputs: shapes.map((shape, i) => ({ name: `part ${i}`, shape, values: normal(count(shape), 1, i + 1), dtype })),
        op: (...parts) => ops.concat(parts, axis),
        oracle: (...parts) => oracle.concat(parts, shapes, axis < 0 ? axis + shapes[0]!.length : axis),
        ...exact,
        device,
      });
  });

  test("concat of one tensor twice adds both gradients, and int32 is copied", () => {
    tidy(() => {
      const x = Tensor.from([1, 2], undefined, { device });
      const w = Tensor.from([1, 2, 10, 20], undefined, { device });
      const [, [g]] = valueAndGrad(() => ops.sum(ops.mul(ops.concat([x, x]), w)), [x]);
      expect([...g!.dataSync()]).toEqual([11, 22]);
      const ints = Tensor.from(Int32Array.of(1, -2), undefined, { device });
      expect([...ops.concat([ints, ints]).dataSync()]).toEqual([1, -2, 1, -2]);
    });
  });

  test("reshape and leading slices are views", () => {
    tidy(() => {
      const values = normal(24, 1, 1);
      const x = Tensor.from(values, [4, 6], { device });
      const before = memory();
      const y = ops.reshape(x, [2, -1, 3]);
      const z = ops.slice(x, 0, 1, 3);
      const parts = ops.split(x, 2);
      expect(memory().bytes).toBe(before.bytes);
      expect(memory().tensors).toBe(before.tensors + 4);
      expect(y.shape).toEqual([2, 4, 3]);
      x.dispose();
      expect([...z.dataSync()]).toEqual([...values.slice(6, 18)]);
      expect([...parts[1]!.dataSync()]).toEqual([...values.slice(12)]);
    });
  });

  test("kernels take views at odd offsets", () => {
    const values = normal(101, 1, 1);
    for (const dtype of ["float32", "bfloat16"] as const)
      tidy(() => {
        const x = Tensor.from(values, [101], { dtype, device });
        const y = ops.silu(ops.slice(x, 0, 3, 98));
        const want = oracle.silu(rounded(values, dtype)).slice(3, 98);
        assertClose(y.dataSync(), want, { relative: float32Steps(8) + (dtype === "bfloat16" ? 2 ** -8 : 0) });
      });
  });

  test("reshape passes gradients", () => {
    gradcheck({
      inputs: [{ name: "x", shape: [3, 4], values: normal(12, 1, 1) }],
      op: (x) => ops.reshape(x!, [2, 6]),
      oracle: (x) => x!,
      ...exact,
      device,
    });
    tidy(() => {
      expect(ops.reshape(Tensor.zeros([0, 3], { device }), [5, 0]).shape).toEqual([5, 0]);
      expect(ops.reshape(Tensor.zeros([1], { device }), []).shape).toEqual([]);
    });
  });

  test("bad input", () => {
    tidy(() => {
      const x = Tensor.zeros([2, 3], { device });
      const half = Tensor.zeros([2, 3], { dtype: "bfloat16", device });
      const empty = Tensor.zeros([0, 3], { device });
      expectError(() => ops.reshape(x, [4]), "ShapeError", "ERR_SHAPE", /^reshape: shape is \[4\], want 6 elements/);
      expectError(() => ops.reshape(x, [-1, 4]), "ShapeError", "ERR_SHAPE", /no single answer/);
      expectError(() => ops.reshape(empty, [-1, 0]), "ShapeError", "ERR_SHAPE", /no single answer/);
      expectError(() => ops.reshape(x, [-1, -1]), "RangeError", "ERR_RANGE", /shape\[1\] is -1/);
      expectError(() => ops.reshape(x, [Number.NaN, 2]), "RangeError", "ERR_RANGE", /shape\[0\] is NaN/);
      expectError(() => ops.reshape(x, 6 as never), "TypeError", "ERR_TYPE", /shape is 6/);
      expectError(() => ops.transpose(x, [0, 0]), "ShapeError", "ERR_SHAPE", /permutation is \[0, 0\]/);
      expectError(() => ops.transpose(x, [0]), "ShapeError", "ERR_SHAPE", /each of the 2 axes once/);
      expectError(() => ops.transpose(x, [0, 2]), "RangeError", "ERR_RANGE", /permutation\[1\] is 2/);
      expectError(() => ops.transpose(x, "10" as never), "TypeError", "ERR_TYPE", /permutation is "10"/);
      expectError(() => ops.transpose(Tensor.zeros([3], { device })), "ShapeError", "ERR_SHAPE", /at least 2 axes/);
      expectError(() => ops.slice(x, 2, 0, 1), "RangeError", "ERR_RANGE", /^slice: axis is 2/);
      expectError(() => ops.slice(x, 1, 2, 1), "RangeError", "ERR_RANGE", /end is 1, want an integer from 2 to 3/);
      expectError(() => ops.slice(x, 1, 0, 4), "RangeError", "ERR_RANGE", /end is 4/);
      expectError(() => ops.split(x, 2, 1), "ShapeError", "ERR_SHAPE", /parts is 2, want a divisor of 3/);
      expectError(() => ops.split(x, 0), "RangeError", "ERR_RANGE", /parts is 0/);
      expectError(() => ops.concat([]), "TypeError", "ERR_TYPE", /at least one tensor/);
      expectError(() => ops.concat([x, half]), "DTypeError", "ERR_DTYPE", /tensors\[1\] is bfloat16/);
      expectError(
        () => ops.concat([x, x, Tensor.zeros([2, 4], { device })]),
        "ShapeError",
        "ERR_SHAPE",
        /tensors\[2\]/,
      );
      expectError(() => ops.concat([x, x], 2), "RangeError", "ERR_RANGE", /axis is 2/);
      half.dispose();
      expectError(() => ops.reshape(half, [6]), "DisposedError", "ERR_DISPOSED", /x was disposed/);
    });
  });

  test("the native copy refuses to leave its tensors", () => {
    tidy(() => {
      const x = Tensor.zeros([6], { device });
      const copy = (shape: number[], from: number[], offset: number, to: number[], toOffset: number) => () =>
        native.stridedCopy(x.handle, x.handle, shape, from, offset, to, toOffset);
      expectError(copy([2, 3], [3, 1], 1, [3, 1], 0), "ShapeError", "ERR_SHAPE", /past the end of source/);
      expectError(copy([2, 3], [3, 1], 0, [4, 1], 0), "ShapeError", "ERR_SHAPE", /past the end of target/);
      expectError(copy([2], [-1], 3, [1], 0), "RangeError", "ERR_RANGE", /negative/);
      expectError(copy([2], [1], -1, [1], 0), "RangeError", "ERR_RANGE", /offset/);
      expectError(copy([-2], [1], 0, [1], 0), "RangeError", "ERR_RANGE", /negative/);
      expectError(copy([2 ** 30, 2 ** 30], [1, 1], 0, [1, 1], 0), "RangeError", "ERR_RANGE", /2\^53/);
      expectError(copy([2], [1, 1], 0, [1], 0), "ShapeError", "ERR_SHAPE", /differ in length/);
      expectError(copy(new Array(9).fill(1), new Array(9).fill(1), 0, [1], 0), "RangeError", "ERR_RANGE", /shape is 9/);
      expectError(copy("22" as never, [1], 0, [1], 0), "TypeError", "ERR_TYPE", /shape is not an array/);
    });
  });
});
