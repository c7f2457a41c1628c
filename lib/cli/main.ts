#!/usr/bin/env node
/** The `birkhoff` command: finds the subcommand, and turns errors into one line and an exit code. */
import { BirkhoffError, NonFiniteError } from "../errors.ts";
import { nearest } from "../nearest.ts";
import { UsageError } from "./arguments.ts";
import { version } from "./version.ts";

interface Command {
  run(argv: readonly string[]): Promise<number>;
}

// Loaded on demand, so that `doctor` and `--help` work where the addon does not load.
const commands: Record<string, { about: string; load(): Promise<Command> }> = {
  train: { about: "train a GPT with hyper-connections on text", load: () => import("./train.ts") },
  generate: { about: "continue a prompt with a trained model", load: () => import("./generate.ts") },
  build: { about: "build the native addon from source", load: () => import("./build.ts") },
  bench: { about: "measure the kernels and a training step on this machine", load: () => import("./bench.ts") },
  doctor: { about: "show what this machine offers, and why CUDA is not used", load: () => import("./doctor.ts") },
};

const help = `usage: birkhoff <command> [flags]

Hyper-connections for Node.js.

${Object.entries(commands)
  .map(([name, { about }]) => `  ${name.padEnd(12)}${about}`)
  .join("\n")}

  --version   print the version
  --help      show this help; birkhoff <command> --help shows a command's
`;

async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    (name === undefined ? process.stderr : process.stdout).write(help);
    return name === undefined ? 2 : 0;
  }
  if (name === "--version" || name === "-v") {
    process.stdout.write(`${version()}\n`);
    return 0;
  }
  if (!Object.hasOwn(commands, name)) {
    const near = nearest(name, Object.keys(commands))[0];
    const hint = near ? `, did you mean ${near}?` : "";
    throw new UsageError(
      `unknown command ${JSON.stringify(name)}${hint} Commands: ${Object.keys(commands).join(", ")}`,
    );
  }
  return (await commands[name]!.load()).run(rest);
}

/** Bad input and output: 2. Failed training, a missing addon: 1. Anything else is a bug, and shows its stack: 1. */
function explain(error: unknown): number {
  const code = (error as { code?: unknown } | null)?.code;
  const typed = error instanceof BirkhoffError || code === "ERR_RANGE" || code === "ERR_TYPE";
  if (!(error instanceof Error) || !typed) {
    process.stderr.write(`birkhoff: internal error: ${error instanceof Error ? error.stack : String(error)}\n`);
    return 1;
  }
  const line = error.message.replaceAll(/\s*\n\s*/g, " ");
  process.stderr.write(`${line.startsWith("birkhoff: ") ? "" : "birkhoff: "}${line}\n`);
  return error instanceof NonFiniteError || code === "ERR_ADDON" ? 1 : 2;
}

// A reader that went away (birkhoff … | head) is no error of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  process.exit(error.code === "EPIPE" ? 0 : 2);
});

process.exitCode = await main(process.argv.slice(2)).catch(explain);
