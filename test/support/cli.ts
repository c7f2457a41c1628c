/** Runs the command in a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { compiled } from "./compiled.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

export interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface CliOptions {
  /** A shell command put before node, such as a limit. */
  before?: string;
  /** Called with all of standard output so far, whenever there is more. */
  onOutput?: (text: string, child: ChildProcess) => void;
}

export function birkhoff(args: readonly string[], options: CliOptions = {}): Promise<Outcome> {
  const node = [process.execPath, "--no-warnings", compiled("cli/main"), ...args];
  const [command, ...rest] = options.before ? ["bash", "-c", `${options.before}; exec "$@"`, "bash", ...node] : node;
  const child = spawn(command!, rest, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk: Buffer) => {
    stdout += chunk;
    options.onOutput?.(stdout, child);
  });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk;
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}
