/** How the hyper-connection kernels of a GPU are compared: with the CPU's within bounds, with each other to the bit. */
import { describe, expect, it } from "vitest";
import { tidy } from "../../lib/index.ts";
import { sizeFor, testDevices } from "./devices.ts";
import { type KernelCase, runKernels } from "./hyper_connection_kernels.ts";
import { assertClose, bfloat16Rounding, float32Steps } from "./tolerance.ts";

/** BIRKHOFF_STAND_IN=cpu takes the CPU for a GPU: how long the large shapes take, where there is none. */
export const gpus = process.env.BIRKHOFF_STAND_IN
  ? [process.env.BIRKHOFF_STAND_IN]
  : testDevices.filter((name) => name.startsWith("cuda"));

type Values = Record<string, Float32Array>;
export const run = (device: string, c: KernelCase): Values =>
  tidy(() => {
    const results = runKernels(device, c);
    return Object.fromEntries(Object.entries(results).map(([name, t]) => [name, t.dataSync() as Float32Array]));
  });

/** Stored in the streams' dtype: one rounding. */
const streams = new Set(["input", "y", "gradOutput", "mixed", "gradX"]);

/**
 * Two float32 evaluations of the same sums differ by the roundings of both. The longest chain is a sum over K = nC or T, then
 * 2 · iters normalisations there and back, each with n + 3 operations; sums are compared at the scale of their largest result.
 * The seam follows from y, which may be rounded apart: its bits are compared instead.
 *
 * @param actual  of that case, where it is there already
 */
export function agreesWithCpu(device: string, c: KernelCase, actual = run(device, { ...c, seam: false })): void {
  const chain = 2 * (Math.sqrt(c.n * c.channels) + 2 * (c.iters ?? 20) * 2 * (c.n + 3)) * (1 + (c.logits ?? 1));
  for (const [name, values] of Object.entries(run("cpu", { ...c, seam: false }))) {
    const rounding = streams.has(name) && c.dtype === "bfloat16" ? 2 * bfloat16Rounding : 0;
    assertClose(actual[name]!, values, { scaled: float32Steps(chain), relative: rounding, label: name });
  }
}

export const sameBits = (a: Float32Array, b: Float32Array, label: string) =>
  expect(Buffer.compare(Buffer.from(a.buffer), Buffer.from(b.buffer)), label).toBe(0);

const shape = (tokens: number, channels: number) => ({ tokens, channels });
/**
 * The smallest that cross every boundary, with and without a remainder, in pieces of 8 channels and without: of a warp's 16 and a
 * block's 128 tokens, of the 512 columns that are summed in one range, of the 2048 that a block takes at once.
 */
const small = [
  shape(1, 32),
  shape(13, 19),
  shape(48, 72),
  shape(130, 40),
  shape(7, 528),
  shape(2, 2057),
  shape(1, 2560),
];
const large = [
  ...[1, 7, 13, 48, 257, 512].map((tokens) => shape(tokens, 1280)),
  ...[32, 5129, 7168].map((channels) => shape(48, channels)),
];

/** n streams of a dtype, with and without the head, at every shape: a file's worth, so that the files run beside each other. */
export function describeAgreement(dtype: KernelCase["dtype"], n: number): void {
  describe.each(gpus)("hyper-connection kernels on %s", (device) => {
    const shapes = sizeFor(
      device,
      n === 4 ? [...large, shape(512, 7168)] : large,
      small.filter(({ channels }) => n < 8 || channels < 2048),
    );

    it.each(shapes)(`${dtype}, n = ${n}, %o: as on the CPU, the seam as mhcPost and mhcPre`, (shape) => {
      const c = { ...shape, n, dtype };
      const values = run(device, c);
      agreesWithCpu(device, c, values);
      sameBits(values["seam.streams"]!, values.y!, "streams");
      for (const name of ["input", "pre", "post", "res", "q", "r"])
        sameBits(values[`seam.${name}`]!, values[`apart.${name}`]!, name);
    });

    it.each(shapes)(`${dtype}, n = ${n}, the head, %o: as on the CPU`, (shape) => {
      agreesWithCpu(device, { ...shape, n, dtype, head: true });
    });
  });
}
