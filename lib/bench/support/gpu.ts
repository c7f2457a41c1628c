/**
 * How a GPU is measured: by events on its stream, with a cold L2. Before every sample, outside the timed window, a buffer larger than
 * L2 is written, which keeps the GPU busy until the sample's launches are queued, so that gaps between them are the GPU's; then
 * another one is read, so that no line is left in L2 that the sample would have to write back.
 *
 * All samples of a round are queued in turn, each round starting with another one: the op, the op as a recorded graph, two copies of as
 * many bytes (the driver's and a kernel's), the op with an event behind each of its kernels, and nothing at all (what two events are
 * apart at least).
 */
import { Graph } from "../../graph.ts";
import { native } from "../../native.ts";
import { Tensor } from "../../tensor.ts";
import type { Case } from "./cases.ts";
import { Inputs } from "./inputs.ts";
import { type Timing, timing } from "./measure.ts";

/** What is timed on other processes' clocks in the same rounds. */
export interface Guest {
  name: string;
  /** Milliseconds of `count` passes. */
  run(count: number): Promise<number[]>;
}

export interface KernelTiming extends Timing {
  /** What it moves at least; absent where the op does not say. */
  bytes?: number;
}

export interface GpuTimings {
  op: Timing;
  /** The driver's copy and that of a kernel; the faster one is the yardstick. */
  copies: { driver: Timing; kernel: Timing };
  copiedBytes: number;
  /** Launches in order. Empty where no names are to be had or the op is one kernel. */
  kernels: KernelTiming[];
  nothing: Timing;
  /** Absent where the op could not be recorded: then `graphError` says why. */
  graph?: Timing;
  graphError?: string;
  guests: Timing[];
}

/** The bytes that an op counts with on a GPU: those of its kernels, which may read an input more than once. */
export function gpuBytes({ bytes, gpuKernels }: Pick<Case, "bytes" | "gpuKernels">): number {
  return gpuKernels ? Object.values(gpuKernels).reduce((a, b) => a + b, 0) : bytes;
}

/** merge_kernel of "void birkhoff::cuda::(anonymous namespace)::merge_kernel<4, true, float>(float const*, …)". */
export function kernelName(signature: string): string {
  const named = signature.replaceAll("(anonymous namespace)", "");
  return named
    .split(/[<(]/)[0]!
    .split(/[\s:]+/)
    .at(-1)!;
}

function recorded(device: string, run: () => void): Graph<void> | Error {
  try {
    return Graph.record(device, run);
  } catch (error) {
    return error as Error;
  }
}

/** Bytes of buffers that are each larger than the largest L2 there is. */
export interface FlushSizes {
  written: number;
  read: number;
}

/** Leaves nothing of use in a L2 cache, and nothing that has to be written back. */
export class Flush {
  readonly #written: Tensor;
  readonly #read: Tensor;
  readonly #sum: Tensor;
  #value = 0;
  readonly device: string;

  constructor(device: string, { written, read }: FlushSizes) {
    this.device = device;
    this.#written = Tensor.zeros([written / 4], { device });
    this.#read = Tensor.zeros([read / 4], { device });
    this.#sum = Tensor.zeros([1], { device });
  }

  run(): void {
    native.fill(this.#written.handle, ++this.#value % 1024);
    native.reduceAxis(this.#read.handle, null, this.#sum.handle, 1, this.#read.size, 1, 1);
  }

  dispose(): void {
    for (const tensor of [this.#written, this.#read, this.#sum]) tensor.dispose();
  }
}

type Marks = ReturnType<typeof native.takeMarks>;

/** Splits what came between the marks "from" and "to" of each sample: its milliseconds, and those of each kernel inside. */
export function samplesOf(marks: Marks): { ms: number; kernels: { name: string; ms: number }[] }[] {
  const samples: ReturnType<typeof samplesOf> = [];
  let start = -1;
  for (const [i, mark] of marks.entries()) {
    if (mark.name === "from") start = i;
    if (mark.name !== "to") continue;
    const inside = marks.slice(start + 1, i);
    samples.push({
      ms: mark.ms - marks[start]!.ms,
      kernels: inside.map(({ name, ms }, k) => ({ name: kernelName(name), ms: ms - marks[start + k]!.ms })),
    });
  }
  return samples;
}

function sample(flush: Flush, run: () => void, traced: boolean): void {
  flush.run();
  if (traced) native.traceKernels(flush.device, true);
  native.markTime(flush.device, "from");
  run();
  native.markTime(flush.device, "to");
  if (traced) native.traceKernels(flush.device, false);
}

/** Kernels of one op over the rounds; undefined where a round launched others (nothing can be said of each then). */
function kernelTimings(
  rounds: readonly { name: string; ms: number }[][],
  bytes: Readonly<Record<string, number>>,
): KernelTiming[] {
  const names = rounds[0]!.map((k) => k.name);
  if (names.length < 2 || rounds.some((r) => r.length !== names.length)) return [];
  return names.map((name, i) => ({
    ...timing(
      name,
      rounds.map((r) => r[i]!.ms),
    ),
    bytes: bytes[name],
  }));
}

export interface GpuMeasureOptions {
  repeats: number;
  /** Upper limit of a copy, read + written. */
  largestCopy: number;
  guests: readonly Guest[];
}

/** @throws {OutOfMemoryError} the op's tensors do not fit */
export async function measureOnGpu(c: Case, flush: Flush, options: GpuMeasureOptions): Promise<GpuTimings> {
  const { device } = flush;
  const inputs = new Inputs();
  let graph: Graph<void> | undefined;
  try {
    const run = c.prepare(inputs);
    // Whole pieces of 16 bytes.
    const size = 4 * Math.max(16, Math.floor(Math.min(gpuBytes(c), options.largestCopy) / 32));
    const [source, target] = [inputs.normal([size]), inputs.zeros([size])];
    const driverCopy = () => native.stridedCopy(source.handle, target.handle, [size], [1], 0, [1], 0);
    const kernelCopy = () => native.blockCopy(source.handle, target.handle);
    // Untimed, twice: allocates what the op needs, loads its kernels.
    for (let i = 0; i < 2; i++) for (const warm of [run, driverCopy, kernelCopy]) warm();
    await native.synchronize(device);
    const record = recorded(device, run);
    if (record instanceof Graph) graph = record;
    const candidates = [
      { name: "op", run },
      { name: "trace", run },
      { name: "driver copy", run: driverCopy },
      { name: "kernel copy", run: kernelCopy },
      { name: "nothing", run: () => {} },
      ...(graph ? [{ name: "graph", run: () => graph!.launch() }] : []),
    ];
    graph?.launch();
    native.takeMarks(device);
    const times = new Map(candidates.map(({ name }) => [name, [] as number[]]));
    const traces: { name: string; ms: number }[][] = [];
    const guestTimes = options.guests.map((): number[] => []);
    for (let round = 0; round < options.repeats; round++) {
      const turn = candidates.map((_, step) => candidates[(round + step) % candidates.length]!);
      for (const { name, run } of turn) sample(flush, run, name === "trace");
      await native.synchronize(device);
      for (const [i, { ms, kernels }] of samplesOf(native.takeMarks(device)).entries()) {
        const { name } = turn[i]!;
        times.get(name)!.push(ms);
        if (name === "trace") traces.push(kernels);
      }
      for (const [i, guest] of options.guests.entries()) guestTimes[i]!.push(...(await guest.run(1)));
    }
    const of = (name: string) => timing(name, times.get(name)!);
    return {
      op: of("op"),
      copies: { driver: of("driver copy"), kernel: of("kernel copy") },
      copiedBytes: size * 8,
      kernels: kernelTimings(traces, c.gpuKernels ?? {}),
      nothing: of("nothing"),
      graph: graph && of("graph"),
      graphError: record instanceof Graph ? undefined : String(record),
      guests: guestTimes.map((t, i) => timing(options.guests[i]!.name, t)),
    };
  } finally {
    graph?.dispose();
    inputs.dispose();
    await native.synchronize(device);
  }
}
