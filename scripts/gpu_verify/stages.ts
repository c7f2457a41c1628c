/** What is verified, each part within its own time. A part that fails, throws or runs out does not keep the others from running. */
import { join } from "node:path";
import { findTool, runChild, tail } from "./child.ts";
import { failure, lines, node, type Row, type Stage } from "./stage.ts";
import { tests } from "./tests.ts";

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
    // A call that answers "not yet" (cudaEventQuery) is no error of a kernel.
    const watched = ["--tool", tool, "--report-api-errors", "no", "--error-exitcode", "99"];
    const args = [
      ...watched,
      process.execPath,
      "--no-warnings",
      program,
      setup.device,
      ...(setup.tiny ? ["small"] : []),
    ];
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

/** A run of the benchmark; what it had measured counts also where it ran out of time. */
function bench(name: string, repeats: number, filter: string, args: readonly string[] = []): Stage["run"] {
  return async (setup, seconds) => {
    const out = join(setup.scratch, `${name}.jsonl`);
    const sizes = setup.tiny ? ["--tiny", "--filter", "T=1 |sinkhorn"] : ["--filter", filter];
    const rounds = ["--repeats", String(setup.tiny ? 2 : repeats)];
    const program = ["--import", "tsx", "lib/cli/main.ts", "bench", "--device", setup.device, "--out", out];
    const outcome = await node(setup, [...program, ...args, ...rounds, ...sizes], { seconds });
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

/** In all below 10 minutes, whatever runs out. */
export const totalBudget = 585;

const shapes = "T=(1|40|512|8192) n=4 C=(2560|4096) |sinkhorn";

export const stages: readonly Stage[] = [
  { name: "tests", budget: 150, required: true, run: tests },
  { name: "train float32", budget: 20, required: true, run: train("float32") },
  { name: "train bfloat16", budget: 20, required: true, run: train("bfloat16") },
  { name: "bench bfloat16", budget: 50, required: true, run: bench("bfloat16", 15, shapes) },
  {
    name: "bench float32",
    budget: 25,
    required: true,
    run: bench("float32", 10, "T=(40|8192) n=4 C=4096 ", ["--dtype", "float32"]),
  },
  {
    // The paper's size wants some 40 GB.
    name: "bench step",
    budget: 40,
    required: false,
    run: bench("step", 8, "", ["--step"]),
  },
  {
    // PyTorch may be missing, and compiles for as long as it likes: told, but no reason to fail.
    name: "bench pytorch",
    budget: 40,
    required: false,
    run: bench("pytorch", 10, "(connect forward|mhcPost forward).*T=8192 n=4 C=4096 ", ["--peers"]),
  },
  // Last: each kernel is rewritten before its first run, so these say the least a second.
  { name: "memcheck", budget: 120, required: true, run: sanitizer("memcheck") },
  { name: "racecheck", budget: 120, required: true, run: sanitizer("racecheck") },
];
