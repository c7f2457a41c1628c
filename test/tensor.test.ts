/** Tensor: creation, reading, views, disposal, random numbers, bad input; tidy and keep. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { keep, memory, ops, setSeed, setThreads, Tensor, tidy } from "../lib/index.ts";
import { native } from "../lib/native.ts";
import { readAll } from "../lib/tensor.ts";
import { testDevices } from "./support/devices.ts";
import { expectError } from "./support/errors.ts";
import { normal, roundBfloat16 } from "./support/random.ts";
import { assertBitwiseEqual } from "./support/tolerance.ts";

let live = 0;
beforeEach(() => {
  live = memory().tensors;
});
afterEach(() => expect(memory().tensors, "live tensors").toBe(live));

describe.each(testDevices)("tensors on %s", (device) => {
  test("values come back as they went in, in every dtype", async () => {
    const values = normal(37, 100, 1);
    using x = Tensor.from(values, [37], { device });
    assertBitwiseEqual((await x.data()) as Float32Array, values);
    using y = Tensor.from(values, [37], { dtype: "bfloat16", device });
    assertBitwiseEqual((await y.data()) as Float32Array, values.map(roundBfloat16));
    using z = Tensor.from(await y.bits(), [37], { device });
    expect(z.dtype).toBe("bfloat16");
    assertBitwiseEqual(z.dataSync() as Float32Array, y.dataSync() as Float32Array);
    using i = Tensor.from([1, -2, 2 ** 31 - 1], [3], { dtype: "int32", device });
    expect(await i.data()).toEqual(Int32Array.of(1, -2, 2 ** 31 - 1));
    using special = Tensor.from([Number.NaN, Infinity, -Infinity, -0], [2, 2], { dtype: "bfloat16", device });
    expect([...(await special.data())]).toEqual([Number.NaN, Infinity, -Infinity, -0]);
  });

  test("typed arrays are copied: later changes do not show", async () => {
    const values = Float32Array.of(1, 2, 3);
    using x = Tensor.from(values, [3], { device });
    values.fill(9);
    const read = (await x.data()) as Float32Array;
    expect([...read]).toEqual([1, 2, 3]);
    read.fill(7);
    expect([...(await x.data())]).toEqual([1, 2, 3]);
    using part = Tensor.from(new Float32Array([0, 1, 2, 3]).subarray(1, 3), undefined, { device });
    expect([...part.dataSync()]).toEqual([1, 2]);
  });

  test("shape, size, item, and a frozen shape", async () => {
    using x = Tensor.from([5], [], { device });
    expect([x.shape, x.size, await x.item()]).toEqual([[], 1, 5]);
    using y = Tensor.zeros([2, 0, 3], { device });
    expect([y.shape, y.size, (await y.data()).length]).toEqual([[2, 0, 3], 0, 0]);
    expect(() => (y.shape as number[]).push(1)).toThrow(TypeError);
    await expect(y.item()).rejects.toMatchObject({ code: "ERR_SHAPE" });
    expect(String(x)).toBe(`Tensor(float32[] on ${device})`);
  });

  test.each([0, 1, 5, 20011])("full, zeros, ones of %i elements in every dtype", (size) => {
    for (const dtype of ["float32", "bfloat16", "int32"] as const)
      tidy(() => {
        expect(
          Tensor.full([size], -3, { dtype, device })
            .dataSync()
            .every((v) => v === -3),
        ).toBe(true);
        expect(
          Tensor.zeros([size], { dtype, device })
            .dataSync()
            .every((v) => v === 0),
        ).toBe(true);
        expect(
          Tensor.ones([size], { dtype, device })
            .dataSync()
            .every((v) => v === 1),
        ).toBe(true);
      });
  });

  describe("randn", () => {
    test("Philox4x32-10 and Box-Muller, computed again here", () => {
      const seed = 2 ** 40 + 12345;
      const size = 4099;
      const want = philoxNormals(seed, size);
      using x = Tensor.randn([size], { seed, device });
      const got = x.dataSync();
      // Both round a double within a few ulp of the true value: at most the neighbouring float32.
      for (let i = 0; i < size; i++)
        expect(Math.abs(got[i]! - want[i]!)).toBeLessThanOrEqual(2 ** -23 * Math.abs(want[i]!));
      using y = Tensor.randn([size], { seed, mean: 2, std: 0.5, dtype: "bfloat16", device });
      const narrow = y.dataSync();
      for (let i = 0; i < size; i++)
        expect(Math.abs(narrow[i]! - (2 + want[i]! / 2))).toBeLessThanOrEqual(2 ** -8 * Math.abs(2 + want[i]! / 2));
    });

    test("known answer: Philox4x32-10 of counter 0, key 0", () => {
      // Random123's kat_vectors: 6627e8d5 e169c58d bc57ac4c 9b00dbd8.
      expect(philox(0n, 0n).map((w) => w.toString(16))).toEqual(["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]);
    });

    test("moments of a million draws", () => {
      const size = 1_000_000;
      using x = Tensor.randn([size], { seed: 3, device });
      let [sum, squares, fourth] = [0, 0, 0];
      for (const v of x.dataSync()) {
        sum += v;
        squares += v * v;
        fourth += v ** 4;
      }
      // Five standard errors: 1/√N, √2/√N, √96/√N.
      expect(Math.abs(sum / size)).toBeLessThan(5 / Math.sqrt(size));
      expect(Math.abs(squares / size - 1)).toBeLessThan((5 * Math.SQRT2) / Math.sqrt(size));
      expect(Math.abs(fourth / size - 3)).toBeLessThan((5 * Math.sqrt(96)) / Math.sqrt(size));
    });

    test("equal at 1 and 2 threads, a prefix does not depend on the size, seeds differ, setSeed repeats", () => {
      tidy(() => {
        const draw = (size: number, seed?: number) => Tensor.randn([size], { seed, device }).dataSync() as Float32Array;
        setThreads(1);
        const one = draw(50001, 7);
        setThreads(2);
        assertBitwiseEqual(draw(50001, 7), one);
        assertBitwiseEqual(draw(1003, 7), one.slice(0, 1003));
        expect([...draw(8, 8)]).not.toEqual([...one.slice(0, 8)]);
        setSeed(5);
        const first = [draw(9), draw(9)];
        expect([...first[0]!]).not.toEqual([...first[1]!]);
        setSeed(5);
        assertBitwiseEqual(draw(9), first[0]!);
        expect(Tensor.randn([0], { device }).size).toBe(0);
      });
    });
  });

  test("to: another dtype, the same dtype, and errors", () => {
    tidy(() => {
      const x = Tensor.from([1.5, -2.5], undefined, { device });
      expect([...x.to("int32").dataSync()]).toEqual([1, -2]);
      expect(x.to("float32")).not.toBe(x);
      expect([...x.to(device).dataSync()]).toEqual([1.5, -2.5]);
      expectError(() => x.to("float64"), "DeviceError", "ERR_DEVICE", /device is "float64"/);
    });
  });

  test("dispose is idempotent, using disposes, and a disposed tensor is refused", async () => {
    const x = Tensor.ones([3], { device });
    const pending = x.data();
    x.dispose();
    x.dispose();
    expect(x.disposed).toBe(true);
    expect([...(await pending)]).toEqual([1, 1, 1]);
    await expect(x.data()).rejects.toMatchObject({ name: "DisposedError", code: "ERR_DISPOSED" });
    expectError(() => x.dataSync(), "DisposedError", "ERR_DISPOSED", /float32 tensor \[3\] was used after dispose/);
    let inner: Tensor;
    {
      using y = Tensor.ones([3], { device });
      inner = y;
    }
    expect(inner.disposed).toBe(true);
    expect(String(inner)).toContain("disposed");
  });

  test("queued work survives the disposal of what it reads", async () => {
    const x = Tensor.full([200_000], 2, { device });
    const y = ops.mul(x, x);
    x.dispose();
    using other = Tensor.full([200_000], 9, { device });
    expect((await y.data()).every((v) => v === 4)).toBe(true);
    expect(other.dataSync()[0]).toBe(9);
    y.dispose();
  });

  test("a view keeps the memory alive; bytes are counted once", () => {
    const before = memory().bytes;
    const x = Tensor.ones([64, 16], { device });
    const held = memory().bytes - before;
    expect(held).toBe(64 * 16 * 4);
    const y = ops.reshape(x, [16, 64]);
    expect(memory().bytes - before).toBe(held);
    x.dispose();
    expect(memory().bytes - before).toBe(held);
    expect(y.dataSync().every((v) => v === 1)).toBe(true);
    y.dispose();
    expect(memory().bytes).toBe(before);
  });

  test("bad input", () => {
    const detached = new Float32Array(4);
    structuredClone(detached.buffer, { transfer: [detached.buffer] });
    const shared = new Float32Array(new SharedArrayBuffer(16));
    const cases: [() => unknown, string, string, RegExp][] = [
      [
        () => Tensor.from(detached, [4], { device }),
        "ShapeError",
        "ERR_SHAPE",
        /^Tensor\.from: values is empty \(a detached/,
      ],
      [() => Tensor.from(shared, [4], { device }), "TypeError", "ERR_TYPE", /SharedArrayBuffer/],
      [() => Tensor.from(new Float64Array(4) as never, [4]), "TypeError", "ERR_TYPE", /values is a Float64Array/],
      [() => Tensor.from("abc" as never), "TypeError", "ERR_TYPE", /values is "abc"/],
      [() => Tensor.from(["1"] as never), "TypeError", "ERR_TYPE", /values\[0\] is "1", want a number/],
      [() => Tensor.from([1, 2], [3]), "ShapeError", "ERR_SHAPE", /values has 2 elements, want 3/],
      [() => Tensor.from([1.5], [1], { dtype: "int32" }), "RangeError", "ERR_RANGE", /values\[0\] is 1\.5/],
      [() => Tensor.from([Number.NaN], [1], { dtype: "int32" }), "RangeError", "ERR_RANGE", /values\[0\] is NaN/],
      [() => Tensor.from([2 ** 31], [1], { dtype: "int32" }), "RangeError", "ERR_RANGE", /values\[0\] is 2147483648/],
      [() => Tensor.from(new Int32Array(1), [1], { dtype: "float32" }), "DTypeError", "ERR_DTYPE", /a Int32Array/],
      [() => Tensor.from(new Uint16Array(1), [1], { dtype: "int32" }), "DTypeError", "ERR_DTYPE", /Uint16Array/],
      [() => Tensor.zeros([Number.NaN]), "RangeError", "ERR_RANGE", /shape\[0\] is NaN, want an integer at least 0/],
      [() => Tensor.zeros([2, -1]), "RangeError", "ERR_RANGE", /shape\[1\] is -1/],
      [() => Tensor.zeros([1.5]), "RangeError", "ERR_RANGE", /shape\[0\] is 1\.5/],
      [() => Tensor.zeros([2 ** 30, 2 ** 30]), "RangeError", "ERR_RANGE", /more than 2\^53 elements/],
      [() => Tensor.zeros(3 as never), "TypeError", "ERR_TYPE", /shape is 3, want an array/],
      [() => Tensor.zeros([1], { dtype: "float16" as never }), "DTypeError", "ERR_DTYPE", /dtype is float16/],
      [() => Tensor.zeros([1], { device: "tpu" }), "DeviceError", "ERR_DEVICE", /"tpu"/],
      [() => Tensor.full([1], "1" as never), "TypeError", "ERR_TYPE", /value is "1"/],
      [() => Tensor.full([1], 0.5, { dtype: "int32" }), "RangeError", "ERR_RANGE", /value is 0\.5/],
      [() => Tensor.randn([1], { seed: -1 }), "RangeError", "ERR_RANGE", /options\.seed is -1/],
      [() => Tensor.randn([1], { seed: 2 ** 53 }), "RangeError", "ERR_RANGE", /options\.seed/],
      [() => Tensor.randn([1], { std: -1 }), "RangeError", "ERR_RANGE", /options\.std is -1/],
      [() => Tensor.randn([1], { dtype: "int32" }), "DTypeError", "ERR_DTYPE", /want float32 or bfloat16/],
      [() => setThreads(Number.NaN), "RangeError", "ERR_RANGE", /count is NaN/],
      [() => setSeed(0.5), "RangeError", "ERR_RANGE", /seed is 0\.5/],
    ];
    for (const [fn, name, code, message] of cases) expectError(fn, name, code, message);
  });

  test("the native side refuses what is not a tensor or not an integer", () => {
    tidy(() => {
      const x = Tensor.zeros([4], { device });
      const y = Tensor.zeros([5], { device });
      expectError(() => native.fill({} as never, 0), "TypeError", "ERR_TYPE", /not a tensor handle/);
      expectError(() => native.fill(x.handle, "0" as never), "TypeError", "ERR_TYPE", /value is not a number/);
      expectError(() => native.add(x.handle, y.handle, x.handle), "ShapeError", "ERR_SHAPE", /not a multiple/);
      expectError(() => native.tensorView(x.handle, Number.NaN, 1), "RangeError", "ERR_RANGE", /offset/);
      expectError(() => native.tensorView(x.handle, 3, 2), "RangeError", "ERR_RANGE", /size is 2, want 0 to 1/);
      expectError(() => native.tensorEmpty("cpu", 9, 1), "RangeError", "ERR_RANGE", /dtype/);
      expectError(() => native.tensorEmpty("cpu", 0, 2 ** 53), "RangeError", "ERR_RANGE", /overflow/);
    });
  });
});

describe("tidy and keep", () => {
  test("tidy frees all but what it returns, in any plain container", () => {
    const result = tidy(() => {
      const [a, b, c, d] = [1, 2, 3, 4].map((v) => Tensor.full([2], v));
      ops.add(a!, b!);
      return { list: [a], map: new Map([["b", b]]), nested: { c }, freed: String(d) };
    });
    expect(memory().tensors).toBe(live + 3);
    expect(result.list[0]!.dataSync()[0]).toBe(1);
    expect(result.map.get("b")!.dataSync()[0]).toBe(2);
    for (const t of [result.list[0]!, result.map.get("b")!, result.nested.c!]) t.dispose();
  });

  test("scopes nest; a kept tensor outlives them; a result belongs to the outer scope", () => {
    let kept: Tensor | undefined;
    let inner: Tensor | undefined;
    tidy(() => {
      inner = tidy(() => {
        kept = keep(Tensor.ones([1]));
        return Tensor.ones([2]);
      });
      expect(inner.disposed).toBe(false);
    });
    expect(inner!.disposed).toBe(true);
    expect(kept!.disposed).toBe(false);
    kept!.dispose();
  });

  test("an exception frees everything, and the scope is gone", () => {
    expect(() =>
      tidy(() => {
        Tensor.ones([1]);
        tidy(() => Tensor.ones([2]));
        throw new Error("stop");
      }),
    ).toThrow("stop");
    expect(memory().tensors).toBe(live);
    Tensor.ones([1]).dispose();
  });

  test("a promise is refused and nothing leaks", () => {
    expectError(
      () => tidy(() => Promise.resolve(Tensor.ones([1]))),
      "TypeError",
      "ERR_TYPE",
      /^tidy: fn returned a promise/,
    );
    expectError(() => keep(3 as never), "TypeError", "ERR_TYPE", /^keep: tensor is 3/);
  });
});

/** Philox4x32-10 with key = seed, counter = block, in BigInt. */
function philox(seed: bigint, block: bigint): bigint[] {
  const low = (v: bigint) => v & 0xffffffffn;
  let [c0, c1, c2, c3] = [low(block), block >> 32n, 0n, 0n];
  let [k0, k1] = [low(seed), seed >> 32n];
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c0;
    const p1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, low(p1), (p0 >> 32n) ^ c3 ^ k1, low(p0)];
    k0 = low(k0 + 0x9e3779b9n);
    k1 = low(k1 + 0xbb67ae85n);
  }
  return [c0, c1, c2, c3];
}

test("readAll reads each once, in order, and no more at a time than a device keeps memory for", async () => {
  const million = 2 ** 20;
  const sizes = [5, 6, 5, 1, 40, 0, 0, 16, 15, 2].map((size) => ({ size: size * million }) as Tensor);
  const together: number[][] = [];
  let group: number[] = [];
  const values = await readAll(sizes, async ({ size }) => {
    group.push(size / million);
    await null;
    if (group.length) together.push(group);
    group = [];
    return size / million;
  });
  expect(values).toEqual([5, 6, 5, 1, 40, 0, 0, 16, 15, 2]);
  expect(together).toEqual([[5, 6, 5], [1], [40], [0, 0, 16], [15], [2]]);
  expect(await readAll([], () => Promise.reject(new Error("nothing to read")))).toEqual([]);
});

function philoxNormals(seed: number, size: number): number[] {
  const out: number[] = [];
  for (let block = 0; out.length < size; block++) {
    const w = philox(BigInt(seed), BigInt(block)).map(Number);
    for (const k of [0, 2]) {
      const radius = Math.sqrt(-2 * Math.log((w[k]! + 1) / 2 ** 32));
      const angle = (2 * Math.PI * w[k + 1]!) / 2 ** 32;
      out.push(radius * Math.cos(angle), radius * Math.sin(angle));
    }
  }
  return out.slice(0, size);
}
