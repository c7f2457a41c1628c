// Recorded work: the same bits as running it again, memory of its own, and a refusal of what a recording cannot hold.
import { describe, expect, test } from "vitest";
import { Graph } from "../lib/graph.ts";
import { type DeviceError, memory, ops, setSeed, Tensor, tidy, valueAndGrad } from "../lib/index.ts";
import { native } from "../lib/native.ts";
import { testDevices } from "./support/devices.ts";
import { normal } from "./support/random.ts";

const deviceError = (message: RegExp) =>
  expect.objectContaining({ code: "ERR_DEVICE", message: expect.stringMatching(message) });

describe.each(testDevices)("graphs on %s", (device) => {
  const from = (values: readonly number[]) => Tensor.from(values, [values.length], { device });

  test("nothing runs while it is recorded; each launch reads its inputs where they are", async () => {
    const x = from([1, 2, 3]);
    const graph = Graph.record(device, () => ops.scale(ops.add(x, x), 0.5));
    graph.launch();
    expect([...graph.result.dataSync()]).toEqual([1, 2, 3]);
    native.tensorWrite(x.handle, Float32Array.of(4, 5, 6));
    expect([...graph.result.dataSync()]).toEqual([1, 2, 3]);
    graph.launch();
    expect([...(await graph.result.data())]).toEqual([4, 5, 6]);
    graph.dispose();
    x.dispose();
  });

  test("gradients: launch by launch the bits of running it, with eager work in between", () => {
    const before = memory();
    const shape = [40, 24];
    const w = Tensor.from(normal(24 * 24, 1, 1), [24, 24], { device });
    const b = Tensor.from(normal(24, 1, 2), [24], { device });
    const x = Tensor.zeros(shape, { device });
    const step = (input: Tensor) => {
      const [loss, grads] = valueAndGrad(() => ops.sum(ops.gelu(ops.linear(ops.dropout(input, 0.3), w, b))), [w, b]);
      return [loss, ...grads];
    };
    const graph = Graph.record(device, () => step(x));
    for (let round = 0; round < 4; round++) {
      const values = normal(40 * 24, 1, 10 + round);
      native.tensorWrite(x.handle, Float32Array.from(values));
      setSeed(round);
      graph.launch();
      // What it has disposed inside must not be handed to others, nor what others have to it.
      const others = tidy(() => {
        setSeed(round);
        const eager = step(Tensor.from(values, shape, { device })).map((t) => t.dataSync());
        graph.launch();
        return eager;
      });
      setSeed(round);
      graph.launch();
      expect(graph.result.map((t) => t.dataSync())).toEqual(others);
    }
    graph.dispose();
    for (const t of [w, b, x]) t.dispose();
    expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
  });

  test("dropout draws at every launch what the same calls would draw", () => {
    const x = Tensor.ones([1000], { device });
    // More draws than a block of seeds holds.
    const masks = () => Array.from({ length: 70 }, () => ops.dropout(x, 0.5));
    const graph = Graph.record(device, masks);
    const launched = [1, 2].map(() => {
      graph.launch();
      return graph.result.map((t) => t.dataSync());
    });
    expect(launched[1]).not.toEqual(launched[0]);
    setSeed(9);
    const eager = tidy(() => [1, 2].map(() => masks().map((t) => t.dataSync())));
    setSeed(9);
    for (const want of eager) {
      graph.launch();
      expect(graph.result.map((t) => t.dataSync())).toEqual(want);
    }
    graph.dispose();
    x.dispose();
  });

  test("inputs and outputs may be disposed before a launch; a disposed graph cannot be launched", () => {
    const x = from([2]);
    const y = from([0]);
    const graph = Graph.record(device, () => {
      const squared = ops.mul(x, x);
      native.cast(squared.handle, y.handle);
      squared.dispose();
      return null;
    });
    x.dispose();
    // Would take the place of x, if that were free.
    const others = Array.from({ length: 8 }, () => from([7]));
    graph.launch();
    expect(y.dataSync()[0]).toBe(4);
    expect(others.map((t) => t.dataSync()[0])).toEqual(Array(8).fill(7));
    graph.launch();
    graph.dispose();
    graph.dispose();
    expect(() => graph.launch()).toThrow(expect.objectContaining({ code: "ERR_DISPOSED" }));
    expect(y.dataSync()[0]).toBe(4);
    for (const t of [y, ...others]) t.dispose();
  });

  test.each([
    ["a read", (x: Tensor) => x.dataSync(), /cannot be read while a graph is recorded/],
    ["a write", (x: Tensor) => native.tensorWrite(x.handle, Float32Array.of(1)), /cannot be written from the host/],
    ["random numbers", () => void Tensor.randn([3], { device }), /random numbers are drawn while a graph is recorded/],
    ["another recording", (x: Tensor): void => void Graph.record(x.device, () => x), /is being recorded already/],
  ] as const)("%s is refused, nothing stays, and the next recording works", (_, act, message) => {
    const x = from([1]);
    const before = memory();
    expect(() =>
      Graph.record(device, () => {
        ops.add(x, x);
        act(x);
      }),
    ).toThrow(deviceError(message));
    expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
    expect(x.dataSync()[0]).toBe(1);
    const graph = Graph.record(device, () => ops.add(x, x));
    graph.launch();
    expect(graph.result.dataSync()[0]).toBe(2);
    graph.dispose();
    x.dispose();
  });

  test("the promise of a read inside rejects", async () => {
    const x = from([1]);
    let read: Promise<unknown> = Promise.resolve();
    const graph = Graph.record(device, () => {
      read = x.data();
      return ops.add(x, x);
    });
    await expect(read).rejects.toThrow(deviceError(/cannot be read while a graph is recorded/));
    graph.dispose();
    x.dispose();
  });

  test("values that come from JavaScript or another device inside are those of the recording", () => {
    const values = Float32Array.of(1, 2);
    const elsewhere = Tensor.from([10, 20], [2], { device: "cpu" });
    const graph = Graph.record(device, () => {
      // What the first sum leaves free must not be where the values are put: every launch writes it.
      ops.add(from([5, 5]), from([6, 6])).dispose();
      return ops.add(ops.add(Tensor.from(values, [2], { device }), from([100, 200])), elsewhere.to(device));
    });
    values.fill(9);
    for (let launch = 0; launch < 2; launch++) {
      graph.launch();
      expect([...graph.result.dataSync()]).toEqual([111, 222]);
    }
    graph.dispose();
    elsewhere.dispose();
  });

  test("an error inside is thrown as it is", () => {
    const before = memory();
    expect(() =>
      Graph.record(device, () => {
        Tensor.ones([4], { device });
        throw new Error("mine");
      }),
    ).toThrow("mine");
    expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
  });

  test("an index out of range surfaces at the next read, and the next launch is right again", () => {
    const indices = Tensor.from(Int32Array.of(0, 1), [2], { device });
    const weight = from([3, 4]).view([2, 1]);
    const graph = Graph.record(device, () => ops.embedding(indices, weight));
    native.tensorWrite(indices.handle, Int32Array.of(0, 2));
    graph.launch();
    expect(() => graph.result.dataSync()).toThrow(/embedding: indices\[1\] is 2, want 0 to 1/);
    native.tensorWrite(indices.handle, Int32Array.of(1, 1));
    graph.launch();
    expect([...graph.result.dataSync()]).toEqual([4, 4]);
    graph.dispose();
    for (const t of [indices, weight]) t.dispose();
  });

  test("tensorWrite: another size or kind of data is refused", () => {
    const x = from([1, 2]);
    const codes = [Float32Array.of(1), Int32Array.of(1, 2)].map((data) => {
      try {
        native.tensorWrite(x.handle, data);
        return "none";
      } catch (error) {
        return (error as DeviceError).code;
      }
    });
    expect(codes).toEqual(["ERR_SHAPE", "ERR_DTYPE"]);
    expect([...x.dataSync()]).toEqual([1, 2]);
    x.dispose();
  });
});

test("a device that was given no recording has none to end", () => {
  expect(() => native.endCapture("cpu")).toThrow(deviceError(/no graph is being recorded on cpu/));
  native.cancelCapture("cpu");
});
