/** The addon's own surface under wrong arguments: typed errors, never a crash. In a process of its own, since a crash is the point. */
import { expect, test } from "vitest";
import { Tensor } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { expectError } from "../support/errors.ts";
import { runProgram } from "../support/program.ts";

const long = process.env.BIRKHOFF_LONG === "1";
const runs = long ? 20_000 : 40;

test(`${runs} calls of every export with wrong arguments`, { timeout: long ? 3_600_000 : 120_000 }, async () => {
  const { code, signal, stdout, stderr } = await runProgram("fuzz_boundary", {
    args: [String(runs), long ? "2" : "1"],
  });
  expect({ code, signal }, stderr).toEqual({ code: 0, signal: null });
  const { exports, calls, errors, tensors, bytes } = JSON.parse(stdout);
  expect(exports).toBe(Object.values(native).filter((f) => typeof f === "function").length);
  expect(calls).toBe(exports * runs);
  // Both kinds must be there, or the generators have gone stale.
  expect(errors).toBeGreaterThan(0.2 * calls);
  expect(errors).toBeLessThan(0.9 * calls);
  expect({ tensors, bytes }).toEqual({ tensors: 0, bytes: 0 });
});

const detached = () => {
  const array = new Float32Array(4);
  structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
};

test.each([
  ["a detached buffer", detached, "TypeError", "ERR_TYPE", /detached/],
  ["shared memory", () => new Float32Array(new SharedArrayBuffer(16)), "TypeError", "ERR_TYPE", /SharedArrayBuffer/],
  ["float64 values", () => new Float64Array(4), "DTypeError", "ERR_DTYPE", /does not hold the dtype/],
  ["int32 values", () => new Int32Array(4), "DTypeError", "ERR_DTYPE", /does not hold the dtype/],
  ["a DataView", () => new DataView(new ArrayBuffer(16)), "TypeError", "ERR_TYPE", /not a typed array/],
] as const)("tensorFrom refuses %s", (_, make, name, code, message) => {
  expectError(() => native.tensorFrom("cpu", 0, make() as Float32Array), name, code, message);
});

test("a kernel refuses what is no handle, a disposed one, and sizes that do not fit", () => {
  using x = Tensor.ones([4]);
  using y = Tensor.ones([5]);
  const gone = native.tensorEmpty("cpu", 0, 4);
  gone.dispose();
  expectError(() => native.add(x.handle, {} as never, x.handle), "TypeError", "ERR_TYPE", /add: b is not a tensor/);
  expectError(() => native.add(x.handle, gone, x.handle), "DisposedError", "ERR_DISPOSED", /add: b was disposed/);
  expectError(() => native.scale(x.handle, y.handle, 1), "ShapeError", "ERR_SHAPE", /5 elements, want 4/);
  expectError(() => native.scale(x.handle, x.handle, "1" as never), "TypeError", "ERR_TYPE", /factor is not a number/);
});

test("a getter that runs while lists are read cannot pull memory away or overrun the list", () => {
  using target = Tensor.zeros([8]);
  const source = native.tensorFrom("cpu", 0, new Float32Array(8).fill(7));
  const hostile = Object.defineProperty([8], 0, {
    get() {
      source.dispose();
      return 8;
    },
  });
  expectError(
    () => native.stridedCopy(source, target.handle, hostile, [1], 0, [1], 0),
    "DisposedError",
    "ERR_DISPOSED",
    /source was disposed/,
  );
  const growing: number[] = [2];
  Object.defineProperty(growing, 0, {
    get() {
      for (let i = 0; i < 1000; i++) growing.push(2 ** 40);
      return 2;
    },
  });
  native.stridedCopy(target.handle, Tensor.zeros([8]).handle, growing, [1], 0, [1], 0);
});
