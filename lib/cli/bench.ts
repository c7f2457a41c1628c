/** `birkhoff bench`: measures kernels, whole training steps, and the same connection in other libraries. See bench/README.md. */
import type { Settings } from "../bench/run.ts";
import { type Flags, helpText, parseFlags, UsageError, Values } from "./arguments.ts";

export const flags: Flags = {
  ops: { help: "kernels beside the copy bandwidth of the same run" },
  step: { help: "a GPT's training step, plain and mHC: time, memory" },
  peers: { help: "PyTorch (eager, compiled) and jax-js beside, in turn" },
  device: { value: "NAME", help: "cpu, auto, cuda, cuda:1 (default cpu)" },
  dtype: {
    value: "TYPE",
    help: "float32 or bfloat16: of the streams on a GPU (default bfloat16); on the CPU those rows alone",
  },
  tiny: { help: "small sizes: a look whether all runs, in seconds" },
  filter: { value: "REGEX", help: 'ops whose "name shape dtype" matches, or peers by name' },
  repeats: { value: "N", help: "rounds, 1 to 10000 (default 15; GPU 30; peers 8; tiny 3)" },
  threads: { value: "N", help: "CPU threads (default all cores)" },
  out: { value: "FILE", help: "JSON lines to this file, replaced, as they come" },
  roofline: {
    value: "FILE",
    help: "SVG: GFLOP/s over FLOP/byte, below this machine's roof as measured in the same run",
  },
  json: { help: "JSON lines on standard output, and no table" },
};

export const help = () =>
  helpText(
    "birkhoff bench [--ops] [--step] [--peers] [flags]",
    "Measures this package on this machine. Without a section: --ops and --step; on a GPU --ops, by events and by graph replay with a cold L2.",
    flags,
    "The table goes to standard error; JSON lines to --out, else to standard output unless that is a terminal. Ctrl-C keeps the lines so far and exits 130.\nExit codes: 0 done, 1 a peer computes something else, 2 bad input or output.",
  );

function pattern(args: Values): RegExp {
  try {
    return new RegExp(args.string("filter") ?? "");
  } catch {
    throw args.bad("filter", "a regular expression");
  }
}

function readSettings(args: Values): Settings {
  const optional = (name: string, max: number) => (args.has(name) ? args.integer(name, 1, max) : undefined);
  for (const name of ["out", "roofline"]) if (args.string(name) === "") throw args.bad(name, "the name of a file");
  return {
    ops: args.has("ops"),
    step: args.has("step"),
    peers: args.has("peers"),
    device: args.string("device")!,
    dtype: args.has("dtype") ? args.oneOf("dtype", ["float32", "bfloat16"] as const) : undefined,
    tiny: args.has("tiny"),
    filter: pattern(args),
    repeats: optional("repeats", 10_000),
    threads: optional("threads", 256),
    out: args.string("out"),
    roofline: args.string("roofline"),
    json: args.has("json"),
  };
}

/** Runs the command. @returns the exit code */
export async function run(argv: readonly string[]): Promise<number> {
  const given = parseFlags("bench", flags, argv);
  if (given.has("help")) {
    process.stdout.write(help());
    return 0;
  }
  const settings = readSettings(new Values("bench", given, { device: "cpu" }));
  if (settings.out !== undefined && settings.out === settings.roofline)
    throw new UsageError("bench: --out and --roofline are the same file, want two");
  // Only now the addon: help and bad flags do without.
  return (await import("../bench/run.ts")).bench(settings);
}
