/** Extents at the edges of every number type: refused before anything is allocated. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { memory, ops, resetPeakMemory, setMemoryBudget, synchronize, Tensor, tidy } from "../../lib/index.ts";
import { type Handle, native } from "../../lib/native.ts";
import { isHandleSpec, recordCalls } from "../support/recorded_calls.ts";

const edges = [0, 1, 2, -1, -0.5, 1.5, Number.NaN, Infinity, -Infinity, 3037000500];
for (const power of [16, 26, 27, 31, 32, 33, 52, 53, 63, 64, 65])
  for (const offset of [-1, 0, 1]) edges.push(2 ** power + offset);
const shapes: number[][] = edges.map((a) => [a]);
for (const a of edges) for (const b of edges) shapes.push([a, b]);
// Products that wrap to something small in 32 or 64 bits.
for (const [a, b] of [
  [2 ** 16, 2 ** 16],
  [2 ** 32, 2 ** 32],
  [2 ** 31, 2 ** 33],
  [2 ** 52, 2 ** 12],
  [3037000500, 3037000500],
])
  shapes.push([a!, b!], [a!, b!, 1], [1, a!, b!, 4], [a!, b!, 0]);

const codes = ["ERR_RANGE", "ERR_OUT_OF_MEMORY", "ERR_SHAPE"];
const codeOf = (fn: () => unknown): unknown => {
  try {
    fn();
    return undefined;
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
};

beforeAll(() => setMemoryBudget(1 << 24));
afterAll(() => setMemoryBudget(Number.POSITIVE_INFINITY));

describe("boundary shapes", () => {
  test(`${shapes.length} shapes of a tensor`, () => {
    for (const shape of shapes) {
      const size = shape.reduce((a, b) => a * b, 1);
      const legal = shape.every((d) => Number.isInteger(d) && d >= 0);
      resetPeakMemory();
      const before = memory();
      if (legal && size * 4 <= 1 << 24 && shape.reduce((a, b) => a * Math.max(b, 1), 1) < 2 ** 53) {
        Tensor.empty(shape, "float32", "cpu").dispose();
        expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
        continue;
      }
      const makers = [() => Tensor.zeros(shape), () => Tensor.randn(shape), () => Tensor.from([1], shape)];
      const illegal = shape.find((d) => !(Number.isInteger(d) && d >= 0));
      if (size !== 0) makers.push(() => native.tensorEmpty("cpu", 0, illegal ?? size) as never);
      for (const make of makers) expect(codes, `[${shape}]`).toContain(codeOf(make));
      // Nothing was taken, not even for a moment.
      expect(memory(), `[${shape}]`).toEqual(before);
    }
  });

  test("views, slices and reshapes of odd extents", () => {
    using x = Tensor.zeros([4, 6]);
    const before = memory();
    for (const edge of edges) {
      if (edge === 0 || edge === 1 || edge === 2) continue;
      expect(codes).toContain(codeOf(() => native.tensorView(x.handle, edge, 1)));
      expect(codes).toContain(codeOf(() => native.tensorView(x.handle, 1, edge)));
      if (edge !== -1) expect(codes).toContain(codeOf(() => ops.reshape(x, [edge, 24])));
      expect(codes).toContain(codeOf(() => ops.slice(x, 0, 0, edge)));
      expect(codes).toContain(codeOf(() => ops.expand(x, edge)));
    }
    expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
  });

  test("tensors without elements but with huge extents run at once", async () => {
    const many = 2 ** 50;
    tidy(() => {
      const x = Tensor.zeros([many, 0]);
      expect(ops.softmax(x).shape).toEqual([many, 0]);
      expect(ops.gelu(x).size).toBe(0);
      expect(ops.expand(x, 2).shape).toEqual([many, 2, 0]);
      expect(ops.contract(Tensor.zeros([many, 2, 0]), "sum").shape).toEqual([many, 0]);
      expect(ops.sum(x, { axis: 0 }).shape).toEqual([0]);
      expect(ops.transpose(x).shape).toEqual([0, many]);
      const heads = Tensor.zeros([many, 0, 4]);
      expect(ops.attention(heads, heads, heads).shape).toEqual([many, 0, 4]);
      native.columnSum(x.handle, Tensor.zeros([0]).handle, many, 0);
    });
    await synchronize();
  });

  test("every kernel with every number replaced by an edge: a typed error or a result, and memory as before", async () => {
    const calls = recordCalls();
    const functions = native as unknown as Record<string, (...args: unknown[]) => unknown>;
    const before = memory();
    let errors = 0;
    for (const [name, templates] of calls) {
      if (name.startsWith("tensor")) continue;
      const template = templates[0]!;
      for (const [at, spec] of template.entries())
        for (const edge of typeof spec === "number" ? edges : []) {
          const made: Handle[] = [];
          const args = template.map((value) => {
            if (value === null || !isHandleSpec(value)) return value;
            made.push(native.tensorEmpty("cpu", value.dtype, value.size));
            return made.at(-1);
          });
          args[at] = edge;
          const code = codeOf(() => functions[name]!(...args));
          if (code !== undefined) {
            errors++;
            expect(codes, `${name}, argument ${at} = ${edge}`).toContain(code);
          }
          for (const handle of made) handle.dispose();
        }
      // Indices in uninitialised tensors may be out of range: typed, and told once.
      await synchronize().catch((error) => expect(error.code).toBe("ERR_RANGE"));
    }
    expect(errors).toBeGreaterThan(1000);
    expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
  });
});
