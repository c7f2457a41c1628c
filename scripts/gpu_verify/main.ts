/** `npm run gpu:verify`: see bench/README.md. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { commit } from "../../lib/bench/support/commit.ts";
import { runChild } from "./child.ts";
import { allPassed, type Conditions, type StageResult, type Verification, writeReport } from "./report.ts";
import type { Findings, Setup, Stage } from "./stage.ts";
import { stages, totalBudget } from "./stages.ts";

const root = resolve(import.meta.dirname, "../..");

const help = `Usage: npm run gpu:verify -- [options]        or: NODE=/path/to/node bash scripts/gpu_verify.sh [options]

Tests, compute-sanitizer, training and benchmarks on an NVIDIA GPU, in under 10 minutes.

  --only <a,b>        parts: ${stages.map((s) => s.name).join(", ")}
  --results <folder>  default bench/results
  --addon <file>      default build/Release/birkhoff.node
  --device <name>     default cuda
  --sanitizer <file>  compute-sanitizer, if it is not in PATH or the toolkit's folder
  --tests <path>      some tests instead of all
  --tiny              the smallest sizes: whether everything runs, not how fast
  --budget <seconds>  for everything (default ${totalBudget})
  --help

Exit codes: 0 all passed, 1 something failed, 2 wrong flags, 3 no GPU.
`;

const say = (text: string) => process.stderr.write(`${text}\n`);

function parse(args: string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean", default: false } as const;
  const options = {
    only: text,
    results: text,
    addon: text,
    device: text,
    sanitizer: text,
    tests: text,
    budget: text,
    tiny: flag,
    help: flag,
  };
  const { values } = parseArgs({ args, options, strict: true, allowPositionals: false });
  const budget = Number(values.budget ?? totalBudget);
  if (!(budget > 0)) throw new Error(`--budget is ${values.budget}, want a number of seconds`);
  const names = values.only?.split(",");
  const unknown = names?.find((name) => !stages.some((s) => s.name === name));
  if (unknown !== undefined) throw new Error(`--only names ${JSON.stringify(unknown)}, which is no part`);
  return { ...values, budget, chosen: stages.filter((s) => names?.includes(s.name) ?? true) };
}

interface Doctor {
  processor: string;
  addon: { loaded: boolean; reason?: string };
  gpuGemm?: string;
  devices?: { name: string; available: boolean; description: string; reason?: string }[];
}

async function output(command: string, args: readonly string[]): Promise<string> {
  const { code, stdout } = await runChild(command, args, { cwd: root, seconds: 20 });
  return code === 0 ? stdout.trim() : "";
}

const clockFields = ["clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "power.limit", "temperature.gpu"];

async function clocks(): Promise<Record<string, string> | null> {
  const line = await output("nvidia-smi", ["-i", "0", `--query-gpu=${clockFields.join()}`, "--format=csv,noheader"]);
  if (!line) return null;
  const values = line.split("\n")[0]!.split(", ");
  return Object.fromEntries(clockFields.map((name, i) => [name, values[i] ?? ""]));
}

async function conditions(device: string, gpu: string, doctor: Doctor): Promise<Conditions> {
  const [smi, driver, toolkit] = await Promise.all([
    output("nvidia-smi", []),
    output("nvidia-smi", ["-i", "0", "--query-gpu=driver_version", "--format=csv,noheader"]),
    output("nvcc", ["--version"]),
  ]);
  return {
    device,
    gpu,
    driver: driver.split("\n")[0] || null,
    cuda: smi.match(/CUDA Version: *([\d.]+)/)?.[1] ?? null,
    toolkit: toolkit.match(/release ([\d.]+)/)?.[1] ?? null,
    clocks: await clocks(),
    gemm: doctor.gpuGemm ?? null,
    processor: doctor.processor,
    node: process.version,
    commit: commit(),
    date: new Date().toISOString(),
  };
}

async function runStage(stage: Stage, setup: Setup, left: number): Promise<StageResult> {
  const { name, required, budget } = stage;
  // What is started with less would only be told to have failed.
  if (left < 1) return { name, required, budget, status: "not run", seconds: 0, note: "no time was left" };
  const start = performance.now();
  const seconds = Math.min(budget, left);
  let findings: Findings;
  try {
    findings = await stage.run(setup, seconds);
  } catch (error) {
    findings = { passed: false, note: (error as Error).message, output: (error as Error).stack };
  }
  const { passed, outOfTime, ...rest } = findings;
  const status = passed ? "passed" : outOfTime ? "out of time" : "failed";
  return { name, required, budget, status, seconds: (performance.now() - start) / 1000, ...rest };
}

async function main(): Promise<number> {
  let flags: ReturnType<typeof parse>;
  try {
    flags = parse(process.argv.slice(2));
  } catch (error) {
    say(`gpu:verify: ${(error as Error).message}`);
    return 2;
  }
  if (flags.help) {
    process.stdout.write(help);
    return 0;
  }
  const start = performance.now();
  const seconds = () => (performance.now() - start) / 1000;
  const device = flags.device ?? "cuda";
  const addon = resolve(flags.addon ?? join(root, "build/Release/birkhoff.node"));
  const cli = ["--no-warnings", "--import", "tsx", "lib/cli/main.ts"];
  const env = { BIRKHOFF_ADDON: addon };
  const examined = await runChild(process.execPath, [...cli, "doctor", "--json"], { cwd: root, seconds: 60, env });
  let doctor: Doctor;
  try {
    doctor = JSON.parse(examined.stdout) as Doctor;
  } catch {
    say(`gpu:verify: the package does not run: ${examined.stderr.trim() || examined.error}`);
    return 1;
  }
  if (!doctor.addon.loaded) {
    say(`gpu:verify: ${doctor.addon.reason}`);
    return 1;
  }
  const found = doctor.devices?.find((d) => d.name === device);
  if (!found?.available) {
    say(`gpu:verify: there is no NVIDIA GPU to verify: ${found?.reason ?? `this build has no device ${device}`}`);
    return 3;
  }

  const scratch = mkdtempSync(join(tmpdir(), "birkhoff-gpu-"));
  const setup: Setup = {
    root,
    device,
    addon,
    scratch,
    tiny: flags.tiny,
    sanitizer: flags.sanitizer === undefined ? undefined : resolve(flags.sanitizer),
    tests: flags.tests,
  };
  try {
    const verification: Verification = {
      complete: false,
      passed: false,
      seconds: 0,
      conditions: await conditions(device, found.description, doctor),
      stages: [],
    };
    const folder = resolve(flags.results ?? join(root, "bench/results"));
    say(`${found.description}, commit ${verification.conditions.commit}`);
    let path = "";
    for (const stage of flags.chosen) {
      const result = await runStage(stage, setup, flags.budget - seconds());
      say(
        `${result.name.padEnd(16)}${result.status.padEnd(12)}${result.seconds.toFixed(1).padStart(6)} s  ${result.note}`,
      );
      if (/^bench/.test(stage.name)) result.data = { ...result.data, clocks_after: await clocks() };
      verification.stages.push(result);
      verification.seconds = seconds();
      verification.complete = verification.stages.length === flags.chosen.length;
      verification.passed = verification.complete && allPassed(verification.stages);
      path = await writeReport(folder, verification);
    }
    say(`${path}.json\n${path}.md`);
    return verification.passed ? 0 : 1;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  say(`gpu:verify: ${(error as Error).stack}`);
  process.exitCode = 1;
}
