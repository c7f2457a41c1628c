/**
 * The hyper-connection kernels of the GPU against the CPU's, which the float64 oracles have checked, and what they promise of
 * bits: on the executor under every schedule, on a GPU where there is one.
 */
import { afterEach, describe, expect, it } from "vitest";
import { devices, tidy } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { sizeFor } from "../support/devices.ts";
import { type KernelCase, runKernels } from "../support/hyper_connection_kernels.ts";
import { assertClose, bfloat16Rounding, float32Steps } from "../support/tolerance.ts";

const gpus = devices()
  .filter((d) => d.available && d.name.startsWith("cuda"))
  .map((d) => d.name);

type Values = Record<string, Float32Array>;
const run = (device: string, c: KernelCase): Values =>
  tidy(() => {
    const results = runKernels(device, c);
    return Object.fromEntries(Object.entries(results).map(([name, t]) => [name, t.dataSync() as Float32Array]));
  });

/** Stored in the streams' dtype: one rounding. */
const streams = new Set(["input", "y", "gradOutput", "mixed", "gradX", "seam.input", "seam.streams", "apart.input"]);

/**
 * Two float32 evaluations of the same sums differ by the roundings of both. The longest chain is a sum over K = nC or T, then
 * 2 · iters normalisations there and back, each with n + 3 operations; sums are compared at the scale of their largest result.
 */
function compare(actual: Values, expected: Values, c: KernelCase): void {
  const chain = 2 * (Math.sqrt(c.n * c.channels) + 2 * (c.iters ?? 20) * 2 * (c.n + 3)) * (1 + (c.logits ?? 1));
  for (const [name, values] of Object.entries(expected)) {
    if (name.startsWith("seam.") || name.startsWith("apart.")) continue; // follow from y, which may be rounded apart
    const rounding = streams.has(name) && c.dtype === "bfloat16" ? 2 * bfloat16Rounding : 0;
    assertClose(actual[name]!, values, { scaled: float32Steps(chain), relative: rounding, label: name });
  }
}

const sameBits = (a: Float32Array, b: Float32Array, label: string) =>
  expect(Buffer.compare(Buffer.from(a.buffer), Buffer.from(b.buffer)), label).toBe(0);

const shape = (tokens: number, channels: number) => ({ tokens, channels });
const small = [
  shape(1, 32),
  shape(13, 19),
  shape(48, 72),
  shape(130, 40),
  shape(7, 1040),
  shape(2, 5129),
  shape(1, 7168),
];
const large = [
  ...[1, 7, 13, 48, 257, 512].map((tokens) => shape(tokens, 1280)),
  ...[32, 5129, 7168].map((channels) => shape(48, channels)),
  shape(512, 7168),
];

afterEach(() => native.emulator?.configure(0, 0, true, true));

describe.each(gpus)("hyper-connection kernels on %s", (device) => {
  const shapesOf = (n: number) =>
    sizeFor(
      device,
      large,
      small.filter(({ channels }) => n * channels < 21_000),
    );

  for (const dtype of ["float32", "bfloat16"] as const)
    for (const n of [1, 2, 4, 8])
      for (const head of [false, true])
        it(`agree with the CPU: ${dtype}, n = ${n}${head ? ", the head" : ""}`, () => {
          for (const shape of shapesOf(n)) {
            const c = { ...shape, n, dtype, head };
            compare(run(device, c), run("cpu", c), c);
          }
        });

  it.each([2, 4, 8])("agree with the CPU at logits of scale %i", (logits) => {
    const c: KernelCase = { tokens: 48, n: 4, channels: 64, dtype: "float32", logits };
    compare(run(device, c), run("cpu", c), c);
  });

  it.each([
    [4, 1],
    [4, 12], // its sums fill the 48 KB that a block has without asking
    [8, 6],
    [8, 64],
  ])("agree with the CPU: n = %i, %i iterations", (n, iters) => {
    const c: KernelCase = { tokens: 70, n, channels: 32, dtype: "float32", iters };
    compare(run(device, c), run("cpu", c), c);
  });

  it("agree with the CPU for streams up to 1e4, and for zeros", () => {
    for (const scale of [1e4, 0]) {
      const c: KernelCase = { tokens: 20, n: 4, channels: 64, dtype: "float32", scale };
      compare(run(device, c), run("cpu", c), c);
    }
  });

  it("no tokens: empty results, zero gradients of the parameters", () => {
    const values = run(device, { tokens: 0, n: 4, channels: 24, dtype: "float32" });
    for (const name of ["gradPhi", "gradAlpha", "gradBias"]) expect(values[name]!.every((v) => v === 0)).toBe(true);
  });

  for (const dtype of ["float32", "bfloat16"] as const)
    for (const n of [1, 2, 4, 8])
      it(`the seam has the bits of mhcPost and mhcPre: ${dtype}, n = ${n}`, () => {
        for (const shape of shapesOf(n)) {
          const values = run(device, { ...shape, n, dtype });
          sameBits(values["seam.streams"]!, values.y!, "streams");
          for (const name of ["input", "pre", "post", "res", "q", "r"])
            sameBits(values[`seam.${name}`]!, values[`apart.${name}`]!, name);
        }
      });

  it.each(["float32", "bfloat16"] as const)("a token alone has the bits it has in a batch: %s", (dtype) => {
    const c: KernelCase = { tokens: 37, n: 4, channels: 1040, dtype };
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
