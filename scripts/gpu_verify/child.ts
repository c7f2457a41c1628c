/** Programs that the verification runs: output kept, a time limit that ends their whole process group. */
import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

export interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
  outOfTime: boolean;
  /** Why it could not be started. */
  error?: string;
}

export interface ChildOptions {
  cwd: string;
  seconds: number;
  env?: Record<string, string>;
}

/** A verification that is itself run by vitest must not make its own vitest think it is a worker of that one. */
function inherited(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(VITEST|TEST$|NODE_ENV$)/.test(name)));
}

export function runChild(command: string, args: readonly string[], options: ChildOptions): Promise<Outcome> {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { ...inherited(), NO_COLOR: "1", ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const outcome: Outcome = { code: null, stdout: "", stderr: "", outOfTime: false };
  child.stdout.on("data", (chunk: Buffer) => {
    outcome.stdout += chunk;
  });
  child.stderr.on("data", (chunk: Buffer) => {
    outcome.stderr += chunk;
  });
  const timer = setTimeout(() => {
    outcome.outOfTime = true;
    try {
      process.kill(-child.pid!, "SIGKILL");
    } catch {
      // It has just ended.
    }
  }, options.seconds * 1000);
  return new Promise((resolve) => {
    child.on("error", (error) => {
      clearTimeout(timer);
      resolve({ ...outcome, error: error.message });
    });
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ ...outcome, code });
    });
  });
}

/** The file of a tool: in PATH, or in one of the folders; undefined where it is in none. */
export function findTool(name: string, folders: readonly string[]): string | undefined {
  return [...(process.env.PATH ?? "").split(delimiter), ...folders]
    .map((folder) => join(folder, name))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** The last `length` characters of a program's output, as evidence. */
export function tail({ stdout, stderr, error }: Outcome, length = 4000): string {
  return [stdout, stderr, error ?? ""]
    .map((text) => text.trim().slice(-length))
    .filter(Boolean)
    .join("\n");
}
