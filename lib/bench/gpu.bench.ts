/**
 * Every hyper-connection kernel on a GPU, at the sizes of the specification: microseconds by events and by graph replay with a cold
 * L2, beside a copy of as many bytes. See support/gpu.ts for how, and bench/README.md for how to read it.
 */
import { OutOfMemoryError } from "../errors.ts";
import { backwardCase, connectCase } from "./ops/connect.bench.ts";
import { postCases } from "./ops/mhc_post.bench.ts";
import { preCases } from "./ops/mhc_pre.bench.ts";
import { networkEndCases } from "./ops/network_ends.bench.ts";
import { seamCases } from "./ops/seam.bench.ts";
import { sinkhornCases } from "./ops/sinkhorn.bench.ts";
import { TorchOps } from "./peers/torch_ops.ts";
import { type Case, caseName, workFields } from "./support/cases.ts";
import { Flush, type FlushSizes, type GpuTimings, type Guest, gpuBytes, measureOnGpu } from "./support/gpu.ts";
import type { FloatType } from "./support/inputs.ts";
import { round, type Timing } from "./support/measure.ts";
import type { Report } from "./support/report.ts";

export interface GpuSizes {
  tokens: readonly number[];
  channels: readonly number[];
  matrices: readonly number[];
  /** Rows and columns of the product that says what the GPU computes at most. */
  product: number;
  flush: FlushSizes;
  largestCopy: number;
}

/** No L2 reaches 256 MB; while a gigabyte is written, the sample's launches are queued. */
export const fullSizes: GpuSizes = {
  tokens: [1, 40, 512, 4096, 8192, 32768],
  channels: [1280, 2560, 4096, 7168],
  matrices: [8192, 32768],
  product: 8192,
  flush: { written: 2 ** 30, read: 2 ** 28 },
  largestCopy: 2 ** 31,
};

/** For the executor of CUDA sources, whose times mean nothing: to see that everything runs. */
export const tinySizes: GpuSizes = {
  tokens: [1, 9],
  channels: [40],
  matrices: [16],
  product: 32,
  flush: { written: 4096, read: 4096 },
  largestCopy: 4096,
};

export function gpuCases({ tokens, channels, matrices }: GpuSizes, dtype: FloatType): Case[] {
  const sizes = channels.flatMap((C) => tokens.map((T) => ({ tokens: T, n: 4, channels: C, dtype })));
  return [
    ...matrices.flatMap((count) => sinkhornCases(count, 4)),
    ...sizes.flatMap((size) => [
      ...preCases(size),
      ...postCases(size),
      ...seamCases(size),
      backwardCase(size),
      ...networkEndCases(size),
      connectCase(size),
    ]),
  ];
}

const columns = [
  { head: "µs", width: 8 },
  { head: "quartiles", width: 18, spare: 1 },
  { head: "graph µs", width: 9 },
  { head: "floor µs", width: 9 },
  { head: "GB/s", width: 7 },
  { head: "GFLOP/s", width: 8, spare: 2 },
  { head: "% copy", width: 7 },
];

const us = ({ median }: Timing) => round(median * 1000);
const rate = (bytes: number, { median }: Timing) => bytes / median / 1e6;
const quartiles = ({ p25, p75 }: Timing) => `${round(p25 * 1000, 3)} – ${round(p75 * 1000, 3)}`;
const prefixed = (prefix: string, t: Timing) => ({
  [`${prefix}_us`]: us(t),
  [`${prefix}_us_p25`]: round(t.p25 * 1000),
  [`${prefix}_us_p75`]: round(t.p75 * 1000),
});

/** The rates of both copies; what moves bytes is held against the faster one. */
export function copyYardstick({ copies, copiedBytes }: Pick<GpuTimings, "copies" | "copiedBytes">) {
  const [driver, kernel] = [rate(copiedBytes, copies.driver), rate(copiedBytes, copies.kernel)];
  const best = Math.max(driver, kernel);
  return {
    best,
    fields: {
      copy: driver >= kernel ? "driver" : "kernel",
      copy_gb_per_s: round(best),
      driver_copy_gb_per_s: round(driver),
      kernel_copy_gb_per_s: round(kernel),
    },
  };
}

function addRows(c: Case, t: GpuTimings, report: Report): void {
  const copy = copyYardstick(t);
  const shared = { shape: c.shape, dtype: c.dtype, repeats: t.op.samples.length };
  const floor = (bytes: number) => round(bytes / copy.best / 1e3);
  const traffic = (bytes: number | undefined, timing: Timing) =>
    bytes === undefined
      ? {}
      : {
          bytes,
          floor_us: floor(bytes),
          gb_per_s: round(rate(bytes, timing)),
          share_of_copy: round(rate(bytes, timing) / copy.best, 3),
          ...copy.fields,
        };
  const row = (label: string, timing: Timing, bytes: number | undefined, graph?: Timing, gflops?: number) => {
    const moved = bytes === undefined ? "" : rate(bytes, timing);
    const share = bytes === undefined ? "" : `${((100 * rate(bytes, timing)) / copy.best).toFixed(0)} %`;
    const least = bytes === undefined ? "" : floor(bytes);
    report.row(label, [us(timing), quartiles(timing), graph && us(graph), least, moved, gflops, share]);
  };
  const bytes = gpuBytes(c);
  const work = workFields(c.flops, bytes, t.op.median);
  report.group(`${c.shape} ${c.dtype}`);
  report.add({
    name: c.name,
    ...shared,
    ...prefixed("events", t.op),
    ...(t.graph ? prefixed("graph", t.graph) : {}),
    graph_error: t.graphError,
    empty_us: us(t.nothing),
    ...traffic(bytes, t.op),
    ...work,
  });
  row(`  ${c.name}`, t.op, bytes, t.graph, work.gflop_per_s);
  if (t.graphError) report.say(`  no graph: ${t.graphError}`);
  for (const kernel of t.kernels) {
    report.add({
      name: `${c.name} / ${kernel.name}`,
      ...shared,
      ...prefixed("events", kernel),
      ...traffic(kernel.bytes, kernel),
    });
    row(`    ${kernel.name}`, kernel, kernel.bytes);
  }
  for (const guest of t.guests) {
    const times = guest.median / t.op.median;
    report.add({
      name: `peer ${guest.name} ${c.name}`,
      ...shared,
      ...prefixed("events", guest),
      ...traffic(bytes, guest),
      ratio_to_birkhoff: round(times),
    });
    row(`    ${guest.name}: ${round(times, 3)} ×`, guest, bytes);
  }
}

export interface GpuBenchOptions {
  device: string;
  cases: readonly Case[];
  sizes: GpuSizes;
  repeats: number;
  /** PyTorch beside the ops it can do. */
  peers: boolean;
}

export async function runGpuOps(
  report: Report,
  { device, cases, sizes, repeats, peers }: GpuBenchOptions,
): Promise<void> {
  report.title(`Kernels on ${device}`);
  const torch = peers ? await TorchOps.start(sizes.flush, report) : undefined;
  report.table("kernel", columns);
  const flush = new Flush(device, sizes.flush);
  try {
    for (const c of cases) {
      try {
        const guests: readonly Guest[] = torch && c.peer ? await torch.prepare(c, report) : [];
        const timings = await measureOnGpu(c, flush, { repeats, largestCopy: sizes.largestCopy, guests });
        addRows(c, timings, report);
      } catch (error) {
        if (!(error instanceof OutOfMemoryError)) throw error;
        report.add({ name: c.name, shape: c.shape, dtype: c.dtype, skipped: error.message });
        report.say(`${caseName(c)}: skipped, it does not fit in memory (${error.message})`);
      }
    }
  } finally {
    torch?.stop();
    flush.dispose();
  }
}
