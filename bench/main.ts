/** `npm run bench`: measures ops, whole training steps, and the same connection in other libraries. See bench/README.md. */
import { parseArgs } from "node:util";
import { BirkhoffError, setDevice, setThreads } from "../lib/index.ts";
import { native } from "../lib/native.ts";
import { fullSizes, gpuCases, runGpuOps, tinySizes } from "./gpu.bench.ts";
import { opCases } from "./ops/index.ts";
import { runPeers } from "./peers/peers.ts";
import { runSteps } from "./step.bench.ts";
import { type Case, caseName, casesHeader, runCase } from "./support/cases.ts";
import { CopyYardstick } from "./support/copy.ts";
import type { FloatType } from "./support/inputs.ts";
import { Report } from "./support/report.ts";

const help = `Usage: npm run bench -- [--ops] [--step] [--peers] [options]

Without a section: --ops and --step.

  --ops              every kernel, against the copy bandwidth measured in turn with it
  --step             a training step of a GPT, plain against mHC: time and peak memory
  --peers            one connection in birkhoff, PyTorch (eager, compiled) and jax-js, in turn

  --device <name>    cpu (default) or a GPU: cuda, cuda:1, cuda-emulated. On a GPU --ops alone by default: the hyper-connection
                     kernels by events and by graph replay with a cold L2; with --peers PyTorch, eager and compiled, beside them
  --dtype <name>     of the streams on a GPU: bfloat16 (default) or float32
  --tiny             on a GPU: sizes for a quick look whether everything runs

  --filter <regex>   only ops whose "name shape dtype" matches, or peers whose name matches
  --repeats <n>      rounds, 1 … 10000 (default 15; peers 8; GPU 30)
  --threads <n>      threads, 1 … 256 (default: all cores)
  --out <file>       write the JSON lines to a file, replacing it (default: stdout; the table goes to stderr)
  --help
`;

class UsageError extends Error {}

function integer(name: string, text: string | undefined, high: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1 && value <= high) return value;
  throw new UsageError(`--${name} is ${JSON.stringify(text)}, want an integer from 1 to ${high}`);
}

function floatType(text = "bfloat16"): FloatType {
  if (text === "bfloat16" || text === "float32") return text;
  throw new UsageError(`--dtype is ${JSON.stringify(text)}, want bfloat16 or float32`);
}

function parse(args: string[]) {
  const flag = { type: "boolean", default: false } as const;
  const text = { type: "string" } as const;
  const options = {
    ops: flag,
    step: flag,
    peers: flag,
    help: flag,
    tiny: flag,
    device: text,
    dtype: text,
    filter: text,
    repeats: text,
    threads: text,
    out: text,
  };
  try {
    const { values } = parseArgs({ args, options, strict: true, allowPositionals: false });
    return {
      ...values,
      dtype: floatType(values.dtype),
      filter: new RegExp(values.filter ?? ""),
      repeats: integer("repeats", values.repeats, 10_000),
      threads: integer("threads", values.threads, 256),
    };
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function openReport(out: string | undefined): Report {
  try {
    return new Report(out);
  } catch (error) {
    throw new UsageError(`--out: ${(error as Error).message}`);
  }
}

type Flags = ReturnType<typeof parse>;

async function runOps(report: Report, chosen: readonly Case[], repeats: number): Promise<void> {
  const yardstick = new CopyYardstick(native.info().threads);
  report.title("Ops");
  casesHeader(report);
  for (const c of chosen) await runCase(c, report, yardstick, repeats);
  await yardstick.close();
}

async function runOnGpu(flags: Flags, device: string): Promise<void> {
  const sizes = flags.tiny ? tinySizes : fullSizes;
  const cases = gpuCases(sizes, flags.dtype).filter((c) => flags.filter.test(caseName(c)));
  const wantsOps = flags.ops || !flags.step;
  if (wantsOps && cases.length === 0) throw new UsageError(`--filter ${flags.filter.source} matches no op`);
  const report = openReport(flags.out);
  const { repeats = 30, peers } = flags;
  if (wantsOps) await runGpuOps(report, { device, cases, sizes, repeats, peers });
  if (flags.step) await runSteps(report, flags.repeats ?? 15, flags.tiny ? "tiny" : "gpu");
}

async function main(args: string[]): Promise<void> {
  const flags = parse(args);
  if (flags.help) {
    process.stdout.write(help);
    return;
  }
  const device = setDevice(flags.device ?? "cpu");
  if (device !== "cpu") return runOnGpu(flags, device);
  const all = !flags.ops && !flags.step && !flags.peers;
  if (flags.threads !== undefined) {
    setThreads(flags.threads);
    await native.synchronize("cpu");
  }
  const wantsOps = flags.ops || all;
  const chosen = opCases.filter((c) => flags.filter.test(caseName(c)));
  if (wantsOps && chosen.length === 0) throw new UsageError(`--filter ${flags.filter.source} matches no op`);
  const report = openReport(flags.out);
  if (wantsOps) await runOps(report, chosen, flags.repeats ?? 15);
  if (flags.step || all) await runSteps(report, flags.repeats ?? 15, "cpu");
  if (flags.peers) await runPeers(report, flags.filter, flags.repeats ?? 8);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const usage = error instanceof UsageError;
  const expected = usage || error instanceof BirkhoffError;
  process.stderr.write(`bench: ${expected ? (error as Error).message : (error as Error).stack}\n`);
  if (usage) process.stderr.write("See npm run bench -- --help\n");
  process.exitCode = usage ? 2 : 1;
}
