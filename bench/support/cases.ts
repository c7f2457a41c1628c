/** What a file in `bench/ops` exports, and how a case is measured and reported. */
import { currentDevice } from "../../lib/device.ts";
import { native } from "../../lib/native.ts";
import type { CopyYardstick } from "./copy.ts";
import { Inputs } from "./inputs.ts";
import { interleaved } from "./measure.ts";
import { type Report, round, timingFields } from "./report.ts";

/** One kernel, or one public call, at one size. */
export interface Case {
  name: string;
  shape: string;
  dtype: string;
  /** Each input read once, each output written once. */
  bytes: number;
  /** Floating-point operations, for what is bound by arithmetic. */
  flops?: number;
  /** Where a GPU takes several kernels: what each moves at least, by its name. Together they count instead of `bytes`. */
  gpuKernels?: Readonly<Record<string, number>>;
  /** The op of bench/peers/ops_torch.py that does the same, with its sizes. */
  peer?: { op: string; tokens: number; n: number; channels: number };
  /** Makes inputs and outputs, then returns what to time. */
  prepare(inputs: Inputs): () => void;
}

export const caseName = (c: Case) => `${c.name} ${c.shape} ${c.dtype}`;

const widths = [58, 9, 17, 8, 8, 7];

export function casesHeader(report: Report): void {
  report.row(["kernel", "ms", "quartiles", "GB/s", "GFLOP/s", "% copy"], widths);
}

export async function runCase(c: Case, report: Report, yardstick: CopyYardstick, repeats: number): Promise<void> {
  const inputs = new Inputs();
  const copies = yardstick.candidates(c.bytes);
  try {
    const kernel = { name: c.name, run: c.prepare(inputs), finish: () => native.synchronize(currentDevice()) };
    const [own, ...copied] = await interleaved([kernel, ...copies.candidates], { repeats });
    const rate = (bytes: number, ms: number) => bytes / ms / 1e6;
    const best = copied.reduce((a, b) => (a.median <= b.median ? a : b));
    const copyRate = rate(copies.moved, best.median);
    const ownRate = rate(c.bytes, own!.median);
    const gflops = c.flops === undefined ? undefined : round(c.flops / own!.median / 1e6);
    report.add({
      name: c.name,
      shape: c.shape,
      dtype: c.dtype,
      ...timingFields(own!),
      bytes: c.bytes,
      gb_per_s: round(ownRate),
      share_of_copy: round(ownRate / copyRate, 3),
      copy_gb_per_s: round(copyRate),
      copy: best.name,
      gflop_per_s: gflops,
    });
    const quartiles = `${round(own!.p25, 3)} – ${round(own!.p75, 3)}`;
    const share = `${((100 * ownRate) / copyRate).toFixed(0)} %`;
    report.row([caseName(c), own!.median, quartiles, ownRate, gflops, share], widths);
  } finally {
    copies.dispose();
    inputs.dispose();
    await native.synchronize(currentDevice());
  }
}
