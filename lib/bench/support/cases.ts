/** What a file in `ops` exports, and how a case is measured and reported. */
import { currentDevice } from "../../device.ts";
import { native } from "../../native.ts";
import type { CopyYardstick } from "./copy.ts";
import { Inputs } from "./inputs.ts";
import { interleaved, type MeasureOptions, round } from "./measure.ts";
import { type Report, timingFields } from "./report.ts";

/** One kernel, or one public call, at one size. */
export interface Case {
  name: string;
  shape: string;
  dtype: string;
  /** Each input read once, each output written once. */
  bytes: number;
  /** Floating-point operations, counted in flops.ts. */
  flops: number;
  /** Where a GPU takes several kernels: what each moves at least, by its name. Together they count instead of `bytes`. */
  gpuKernels?: Readonly<Record<string, number>>;
  /** The op of peers/ops_torch.py that does the same, with its sizes. */
  peer?: { op: string; tokens: number; n: number; channels: number };
  /** Makes inputs and outputs, then returns what to time. */
  prepare(inputs: Inputs): () => void;
}

export const caseName = (c: Case) => `${c.name} ${c.shape} ${c.dtype}`;

/** What a roofline shows: operations a second, and operations for each byte. */
export const workFields = (flops: number, bytes: number, ms: number) => ({
  flops,
  gflop_per_s: round(flops / ms / 1e6),
  intensity: round(flops / bytes),
});

export function casesHeader(report: Report): void {
  report.table("kernel", [
    { head: "ms", width: 8 },
    { head: "quartiles", width: 18, spare: 1 },
    { head: "floor ms", width: 9 },
    { head: "GB/s", width: 7 },
    { head: "GFLOP/s", width: 8 },
    { head: "% copy", width: 7 },
  ]);
}

export async function runCase(
  c: Case,
  report: Report,
  yardstick: CopyYardstick,
  options: MeasureOptions,
): Promise<void> {
  const inputs = new Inputs();
  const copies = yardstick.candidates(c.bytes);
  try {
    const kernel = { name: c.name, run: c.prepare(inputs), finish: () => native.synchronize(currentDevice()) };
    const [own, ...copied] = await interleaved([kernel, ...copies.candidates], options);
    const rate = (bytes: number, ms: number) => bytes / ms / 1e6;
    const best = copied.reduce((a, b) => (a.median <= b.median ? a : b));
    const copyRate = rate(copies.moved, best.median);
    const ownRate = rate(c.bytes, own!.median);
    const floor = round(c.bytes / copyRate / 1e6);
    const work = workFields(c.flops, c.bytes, own!.median);
    report.add({
      name: c.name,
      shape: c.shape,
      dtype: c.dtype,
      ...timingFields(own!),
      bytes: c.bytes,
      floor_ms: floor,
      gb_per_s: round(ownRate),
      share_of_copy: round(ownRate / copyRate, 3),
      copy_gb_per_s: round(copyRate),
      copy: best.name,
      ...work,
    });
    const quartiles = `${round(own!.p25, 3)} – ${round(own!.p75, 3)}`;
    const share = `${((100 * ownRate) / copyRate).toFixed(0)} %`;
    report.group(`${c.shape} ${c.dtype}`);
    report.row(`  ${c.name}`, [own!.median, quartiles, floor, ownRate, work.gflop_per_s, share]);
  } finally {
    copies.dispose();
    inputs.dispose();
    await native.synchronize(currentDevice());
  }
}
