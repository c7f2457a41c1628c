/** Marks in a device's stream: what benchmarks measure with. */
import { describe, expect, test } from "vitest";
import { devices, ops, Tensor, tidy } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";

const available = devices().filter((d) => d.available);

describe.each(available.map((d) => d.name))("marks on %s", (device) => {
  test("come back once, in order, with the time since the first", () => {
    native.takeMarks(device);
    native.markTime(device, "a");
    tidy(() => ops.sinkhorn(Tensor.randn([64, 4, 4], { device })));
    native.markTime(device, "b");
    native.markTime(device, "c");
    const marks = native.takeMarks(device);
    expect(marks.map((m) => m.name)).toEqual(["a", "b", "c"]);
    expect(marks[0]!.ms).toBe(0);
    expect(marks[1]!.ms).toBeGreaterThan(0);
    expect(marks[2]!.ms).toBeGreaterThanOrEqual(marks[1]!.ms);
    expect(native.takeMarks(device)).toEqual([]);
  });

  test("a trace marks every kernel of a GPU, and nothing once it is off", () => {
    using logits = Tensor.randn([64, 4, 4], { device });
    native.takeMarks(device);
    native.traceKernels(device, true);
    ops.sinkhorn(logits).dispose();
    native.traceKernels(device, false);
    ops.sinkhorn(logits).dispose();
    expect(native.takeMarks(device)).toHaveLength(device === "cpu" ? 0 : 1);
  });

  test("cannot be taken while a graph is recorded", () => {
    native.beginCapture(device);
    try {
      expect(() => native.markTime(device, "a")).toThrow("time cannot be taken while a graph is recorded");
      expect(() => native.takeMarks(device)).toThrow("time cannot be taken while a graph is recorded");
    } finally {
      native.cancelCapture(device);
    }
    expect(native.takeMarks(device)).toEqual([]);
  });

  test("refuse wrong arguments", () => {
    expect(() => native.markTime(device, 1 as never)).toThrow("name is not a string");
    expect(() => native.traceKernels(device, 1 as never)).toThrow("on is not a boolean");
    expect(() => native.takeMarks("none")).toThrow("unknown device none");
  });
});
