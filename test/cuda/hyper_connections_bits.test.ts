/**
 * What the hyper-connection kernels of a GPU promise of bits, on the executor under every schedule; and their agreement with the CPU's
 * at settings and sizes that have nothing to do with the shape.
 */
import { afterEach, describe, expect, it } from "vitest";
import { native } from "../../lib/native.ts";
import { agreesWithCpu, gpus, run, sameBits } from "../support/hyper_connection_agreement.ts";
import type { KernelCase } from "../support/hyper_connection_kernels.ts";

afterEach(() => native.emulator?.configure(0, 0, true, true));

describe.each(gpus)("hyper-connection kernels on %s", (device) => {
  it.each([2, 4, 8])("agree with the CPU at logits of scale %i", (logits) => {
    const c: KernelCase = { tokens: 48, n: 4, channels: 64, dtype: "float32", logits };
    agreesWithCpu(device, c);
  });

  it.each([
    [4, 1],
    [4, 12], // its sums fill the 48 KB that a block has without asking
    [8, 6],
    [8, 64],
  ])("agree with the CPU: n = %i, %i iterations", (n, iters) => {
    const c: KernelCase = { tokens: 70, n, channels: 32, dtype: "float32", iters };
    agreesWithCpu(device, c);
  });

  it("agree with the CPU for streams up to 1e4, and for zeros", () => {
    for (const scale of [1e4, 0]) {
      const c: KernelCase = { tokens: 20, n: 4, channels: 64, dtype: "float32", scale };
      agreesWithCpu(device, c);
    }
  });

  it("no tokens: empty results, zero gradients of the parameters", () => {
    const values = run(device, { tokens: 0, n: 4, channels: 24, dtype: "float32" });
    for (const name of ["gradPhi", "gradAlpha", "gradBias"]) expect(values[name]!.every((v) => v === 0)).toBe(true);
  });

  it.each(["float32", "bfloat16"] as const)("a token alone has the bits it has in a batch: %s", (dtype) => {
    const c: KernelCase = { tokens: 37, n: 4, channels: 528, dtype };
    const batch = run(device, c);
    // The inputs of a case are drawn in the order of its tokens, so the first token of both is the same one.
    const alone = run(device, { ...c, tokens: 1 });
    for (const name of ["q", "r", "pre", "post", "res", "input"])
      sameBits(alone[name]!, batch[name]!.slice(0, alone[name]!.length), name);
  });

  it.each(["float32", "bfloat16"] as const)("the same bits in every run: %s", (dtype) => {
    const c: KernelCase = { tokens: 150, n: 4, channels: 72, dtype };
    const first = run(device, c);
    const again = run(device, c);
    for (const [name, values] of Object.entries(first)) sameBits(again[name]!, values, name);
  });
});

describe.runIf(native.emulator)("hyper-connection kernels under every schedule of the executor", () => {
  it.each(["float32", "bfloat16"] as const)("the same bits: %s", (dtype) => {
    const c: KernelCase = { tokens: 50, n: 4, channels: 72, dtype };
    native.emulator!.configure(0, 0, false, true);
    const forward = run("cuda-emulated", c);
    for (const [order, seed] of [
      [1, 0],
      [2, 1],
      [2, 2],
      [2, 3],
    ] as const) {
      native.emulator!.configure(order, seed, true, true);
      const other = run("cuda-emulated", c);
      for (const [name, values] of Object.entries(forward)) sameBits(other[name]!, values, `${name}, order ${order}`);
    }
  });
});
