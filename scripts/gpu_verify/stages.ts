/** What is verified, each part within its own time. A part that fails, throws or runs out does not keep the others from running. */
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { type ChildOptions, findTool, type Outcome, runChild, tail } from "./child.ts";

export interface Setup {
  root: string;
  device: string;
  addon: string;
  /** compute-sanitizer, where it is not looked for. */
  sanitizer?: string;
  /** A file or folder instead of all tests. */
  tests?: string;
  tiny: boolean;
  /** A folder for files that go afterwards. */
  scratch: string;
}

export type Row = Record<string, unknown>;

export interface Findings {
  passed: boolean;
  /** One line for the table. */
  note: string;
  /** Numbers for the report. */
  data?: Row;
  rows?: Row[];
  /** Evidence where it did not pass. */
  output?: string;
}

export interface Stage {
  name: string;
  /** Seconds it may take. */
  budget: number;
  /** Whether it decides the exit code. */
  required: boolean;
  run(setup: Setup, seconds: number): Promise<Findings>;
}

const node = (setup: Setup, args: readonly string[], options: Omit<ChildOptions, "cwd">) =>
  runChild(process.execPath, ["--no-warnings", ...args], {
    ...options,
    cwd: setup.root,
    env: { BIRKHOFF_ADDON: setup.addon, ...options.env },
  });

const failure = (outcome: Outcome, note?: string): Findings => ({
  passed: false,
  note:
    note ??
    (outcome.outOfTime ? "out of time" : outcome.error ? `not started: ${outcome.error}` : `exit code ${outcome.code}`),
  output: tail(outcome),
});

interface TestReport {
  numTotalTests: number;
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  testResults: { name: string; message?: string; status: string; assertionResults: Assertion[] }[];
}

interface Assertion {
  status: string;
  fullName: string;
  failureMessages?: string[];
}

/** About the executor of CUDA sources, or impossible without it: a GPU cannot be told in which order to run, or when to fail. */
export const executorTests = ["test/cuda-emu/**", "test/cuda/failing_calls.test.ts", "test/cuda/schedules.test.ts"];

async function tests(setup: Setup, seconds: number): Promise<Findings> {
  const file = join(setup.scratch, "tests.json");
  const workers = Math.min(8, availableParallelism());
  const args = ["--reporter=json", `--outputFile=${file}`, `--maxWorkers=${workers}`];
  args.push(...executorTests.map((path) => `--exclude=${path}`));
  const env = { BIRKHOFF_REQUIRE_CUDA: "1" };
  const vitest = ["node_modules/vitest/vitest.mjs", "run", ...args, ...(setup.tests ? [setup.tests] : [])];
  const outcome = await node(setup, vitest, { seconds, env });
  if (!existsSync(file)) return failure(outcome);
  const report = JSON.parse(readFileSync(file, "utf8")) as TestReport;
  const failed = report.testResults.flatMap((f) => [
    ...f.assertionResults
      .filter((a) => a.status === "failed")
      .map((a) => ({ test: a.fullName, why: (a.failureMessages ?? []).join("\n").slice(0, 1000) })),
    // A file that could not even be loaded has no assertions.
    ...(f.status === "failed" && !f.assertionResults.some((a) => a.status === "failed")
      ? [{ test: f.name, why: (f.message ?? "").slice(0, 1000) }]
      : []),
  ]);
  const data = {
    passed: report.numPassedTests,
    failed: failed.length,
    skipped: report.numPendingTests,
    total: report.numTotalTests,
    failures: failed,
  };
  const note = `${data.passed} passed, ${data.failed} failed, ${data.skipped} skipped`;
  const passed = outcome.code === 0 && failed.length === 0 && data.passed > 0;
  return { passed, note, data, output: passed ? undefined : tail(outcome) };
}

/** compute-sanitizer over a program that calls every kernel; only its own summary of no errors counts as a pass. */
function sanitizer(tool: "memcheck" | "racecheck"): Stage["run"] {
  return async (setup, seconds) => {
    const home = process.env.CUDA_HOME ?? process.env.CUDA_PATH ?? "/usr/local/cuda";
    const command = setup.sanitizer ?? findTool("compute-sanitizer", [join(home, "bin"), "/usr/local/cuda/bin"]);
    if (command === undefined)
      return { passed: false, note: `compute-sanitizer was not found in PATH nor in ${join(home, "bin")}` };
    // Bundled: the loader of TypeScript would only add to what the tool watches.
    const program = join(setup.scratch, "every_kernel.mjs");
    const { build } = await import("esbuild");
    await build({
      entryPoints: [join(setup.root, "test/native/programs/every_kernel.ts")],
      outfile: program,
      bundle: true,
      platform: "node",
      format: "esm",
      packages: "external",
      logLevel: "silent",
    });
    const args = ["--tool", tool, "--error-exitcode", "99", process.execPath, "--no-warnings", program, setup.device];
    // Our own products instead of cuBLAS', which the tool would watch for minutes, and of which it has reported hazards wrongly.
    const env = { BIRKHOFF_ADDON: setup.addon, BIRKHOFF_CUBLAS: "none", BIRKHOFF_ALLOCATOR: "direct" };
    const outcome = await runChild(command, args, { cwd: setup.root, seconds, env });
    const all = `${outcome.stdout}\n${outcome.stderr}`;
    const summary = all.match(/(?:ERROR|RACECHECK) SUMMARY: .*/)?.[0];
    const calls = all.match(/every kernel: (\d+) calls/)?.[1];
    if (outcome.code !== 0 || !calls || !summary || !/SUMMARY: 0 (errors|hazards)/.test(summary))
      return failure(
        outcome,
        outcome.outOfTime || outcome.error ? undefined : (summary ?? `no summary, exit code ${outcome.code}`),
      );
    return { passed: true, note: summary, data: { calls: Number(calls), tool: command } };
  };
}

function lines(file: string): Row[] {
  if (!existsSync(file)) return [];
  const parsed: Row[] = [];
  for (const line of readFileSync(file, "utf8").split("\n"))
    if (line.endsWith("}")) parsed.push(JSON.parse(line) as Row); // a program that was ended may leave half a line
  return parsed;
}

/** A run of the benchmark; what it had measured counts also where it ran out of time. */
function bench(name: string, args: readonly string[], filter: string): Stage["run"] {
  return async (setup, seconds) => {
    const out = join(setup.scratch, `${name}.jsonl`);
    const sizes = setup.tiny ? ["--tiny", "--repeats", "2", "--filter", "T=1 |sinkhorn"] : ["--filter", filter];
    const program = ["--import", "tsx", "bench/main.ts", "--device", setup.device, "--out", out];
    const outcome = await node(setup, [...program, ...args, ...sizes], { seconds });
    const rows = lines(out);
    const measured = rows.filter((r) => r.skipped === undefined).length;
    const note = `${measured} figures${rows.length > measured ? `, ${rows.length - measured} sizes did not fit` : ""}`;
    if (outcome.code !== 0 || measured === 0) return { ...failure(outcome), rows };
    return {
      passed: true,
      note,
      rows,
      data: {
        log: outcome.stderr
          .trim()
          .split("\n")
          .filter((l) => /skipped/.test(l)),
      },
    };
  };
}

function train(dtype: string): Stage["run"] {
  return async (setup, seconds) => {
    const steps = setup.tiny ? 2 : 200;
    const tiny = setup.tiny ? ["--dim", "16", "--layers", "1", "--heads", "2", "--context", "8", "--batch", "2"] : [];
    const flags = ["--preset", "demo", "--steps", String(steps), "--sample", "0", "--json", "--log-every", "10"];
    const where = ["--device", setup.device, "--dtype", dtype, "--eval-batches", setup.tiny ? "1" : "20"];
    const outcome = await node(setup, ["--import", "tsx", "lib/cli/main.ts", "train", ...flags, ...where, ...tiny], {
      seconds,
    });
    const events = outcome.stdout.split("\n").flatMap((l) => (l.startsWith("{") ? [JSON.parse(l) as Row] : []));
    const logged = events.filter((e) => e.event === "step");
    const [first, last] = [logged[0], logged.at(-1)];
    if (outcome.code !== 0 || !first || !last) return failure(outcome);
    const [start, end, heldOut] = [first["train/loss"], last["train/loss"], last["eval/loss"]].map(Number);
    const data = {
      dtype,
      steps: last.step,
      first_loss: start,
      final_loss: end,
      held_out_loss: heldOut,
      tokens_per_second: last["train/tokens_per_second"],
      peak_bytes: events.find((e) => e.event === "end")?.peakBytes,
    };
    const note = `loss ${start!.toFixed(3)} → ${end!.toFixed(3)}, ${Math.round(Number(data.tokens_per_second))} tokens/s`;
    // NaN fails as well.
    const passed = last.step === steps && (setup.tiny ? Number.isFinite(end) : end! < start! - 1);
    return { passed, note, data, output: passed ? undefined : tail(outcome) };
  };
}

/** In all below 8 minutes, whatever runs out. */
export const totalBudget = 465;

const shapes = "T=(1|40|512|8192) n=4 C=(2560|4096) |sinkhorn";

export const stages: readonly Stage[] = [
  { name: "tests", budget: 150, required: true, run: tests },
  { name: "memcheck", budget: 55, required: true, run: sanitizer("memcheck") },
  { name: "racecheck", budget: 55, required: true, run: sanitizer("racecheck") },
  { name: "train float32", budget: 20, required: true, run: train("float32") },
  { name: "train bfloat16", budget: 20, required: true, run: train("bfloat16") },
  { name: "bench bfloat16", budget: 50, required: true, run: bench("bfloat16", ["--repeats", "15"], shapes) },
  {
    name: "bench float32",
    budget: 25,
    required: true,
    run: bench("float32", ["--repeats", "10", "--dtype", "float32"], "T=(40|8192) n=4 C=4096 "),
  },
  {
    // The paper's size wants some 40 GB.
    name: "bench step",
    budget: 40,
    required: false,
    run: bench("step", ["--step", "--repeats", "8"], ""),
  },
  {
    // PyTorch may be missing, and compiles for as long as it likes: told, but no reason to fail.
    name: "bench pytorch",
    budget: 50,
    required: false,
    run: bench("pytorch", ["--repeats", "10", "--peers"], "(connect forward|mhcPost forward).*T=8192 n=4 C=4096 "),
  },
];
