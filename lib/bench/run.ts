/** What `birkhoff bench` does once its flags are read: ops, training steps, other libraries beside. See bench/README.md. */
import { accessSync, constants, statSync } from "node:fs";
import { dirname } from "node:path";
import { UsageError } from "../cli/arguments.ts";
import { writeAtomically } from "../files/atomic.ts";
import { OutputError } from "../files/line_file.ts";
import { setDevice, setThreads } from "../index.ts";
import { native } from "../native.ts";
import { fullSizes, gpuCases, runGpuOps, tinySizes } from "./gpu.bench.ts";
import { opCases } from "./ops/index.ts";
import { peakCases } from "./ops/product.bench.ts";
import { runPeers } from "./peers/peers.ts";
import { PeerError } from "./peers/process.ts";
import { roofline } from "./roofline.ts";
import { runSteps } from "./step.bench.ts";
import { type Case, caseName, casesHeader, runCase } from "./support/cases.ts";
import { CopyYardstick } from "./support/copy.ts";
import type { FloatType } from "./support/inputs.ts";
import { Report } from "./support/report.ts";

export interface Settings {
  ops: boolean;
  step: boolean;
  peers: boolean;
  device: string;
  /** Of the streams on a GPU; on the CPU, rows of that dtype alone. */
  dtype?: FloatType;
  tiny: boolean;
  filter: RegExp;
  repeats?: number;
  threads?: number;
  out?: string;
  /** File for the figure. */
  roofline?: string;
  json: boolean;
}

function openReport({ out, json }: Settings): Report {
  try {
    return new Report({ out, json });
  } catch (error) {
    throw new OutputError(`bench: --out ${out} cannot be written: ${(error as Error).message}`);
  }
}

/** Before minutes of measuring, not after. */
function checkFigure(file: string): void {
  try {
    accessSync(dirname(file), constants.W_OK);
    if (statSync(file, { throwIfNoEntry: false })?.isDirectory()) throw new Error("it is a folder");
  } catch (error) {
    throw new OutputError(`bench: --roofline ${file} cannot be written: ${(error as Error).message}`);
  }
}

async function writeFigure(file: string, report: Report): Promise<void> {
  try {
    await writeAtomically(file, [Buffer.from(roofline(report.rows))]);
  } catch (error) {
    throw new OutputError(`bench: cannot write ${file}: ${(error as Error).message}`);
  }
}

async function runOps(report: Report, cases: readonly Case[], { tiny, repeats = tiny ? 3 : 15 }: Settings) {
  const yardstick = new CopyYardstick(native.info().threads);
  report.title("Ops");
  casesHeader(report);
  for (const c of cases) await runCase(c, report, yardstick, { repeats, sampleMs: tiny ? 1 : undefined });
  await yardstick.close();
}

interface Plan {
  cases: readonly Case[];
  /** Rows and columns of the product for the roof. */
  product: number;
  ops(report: Report, cases: readonly Case[]): Promise<void>;
  steps: "cpu" | "gpu" | "tiny";
  /** Peers as a section of their own; on a GPU they stand beside the ops. */
  peers: boolean;
}

function onCpu(settings: Settings): Plan {
  const { tiny, dtype, peers } = settings;
  return {
    cases: opCases(tiny).filter((c) => dtype === undefined || c.dtype === dtype),
    product: tiny ? 64 : 1536,
    ops: (report, cases) => runOps(report, cases, settings),
    steps: tiny ? "tiny" : "cpu",
    peers,
  };
}

function onGpu({ tiny, dtype = "bfloat16", repeats = tiny ? 3 : 30, peers }: Settings, device: string): Plan {
  const sizes = tiny ? tinySizes : fullSizes;
  return {
    cases: gpuCases(sizes, dtype),
    product: sizes.product,
    ops: (report, cases) => runGpuOps(report, { device, cases, sizes, repeats, peers }),
    steps: tiny ? "tiny" : "gpu",
    peers: false,
  };
}

async function measure(settings: Settings): Promise<void> {
  const device = setDevice(settings.device);
  if (settings.threads !== undefined) {
    setThreads(settings.threads);
    await native.synchronize(device);
  }
  const cpu = device === "cpu";
  const plan = cpu ? onCpu(settings) : onGpu(settings, device);
  const named = settings.ops || settings.step || settings.peers;
  const wantsOps = settings.ops || (cpu ? !named : !settings.step);
  const wantsSteps = settings.step || (cpu && !named);
  const { filter, tiny } = settings;
  const cases = plan.cases.filter((c) => filter.test(caseName(c)));
  if (wantsOps && cases.length === 0) throw new UsageError(`bench: --filter ${filter.source} matches no op`);
  const figure = settings.roofline;
  if (figure !== undefined && !wantsOps) throw new UsageError("bench: --roofline shows ops, want --ops with it");
  if (figure !== undefined) checkFigure(figure);
  const report = openReport(settings);
  try {
    const roof = figure === undefined ? [] : peakCases(plan.product, cases);
    if (wantsOps) await plan.ops(report, [...roof, ...cases]);
    if (figure !== undefined) await writeFigure(figure, report);
    const { repeats = tiny ? 3 : 15 } = settings;
    if (wantsSteps) await runSteps(report, repeats, plan.steps);
    if (plan.peers) await runPeers(report, filter, settings.repeats ?? (tiny ? 2 : 8), tiny);
  } finally {
    report.close();
  }
}

/** @returns the exit code: 1 where a peer computes something else */
export async function bench(settings: Settings): Promise<number> {
  // What was measured is in the file already.
  const onInterrupt = () => process.exit(130);
  process.once("SIGINT", onInterrupt);
  try {
    await measure(settings);
    return 0;
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    process.stderr.write(`birkhoff: ${error.message}\n`);
    return 1;
  } finally {
    process.off("SIGINT", onInterrupt);
  }
}
