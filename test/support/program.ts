/** Runs a file of test/native/programs in a process of its own: what crashes there fails a test, not the test runner. */
import { spawn } from "node:child_process";
import { compiled } from "./compiled.ts";

export interface ProgramResult {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface ProgramOptions {
  args?: readonly string[];
  env?: Record<string, string>;
}

export function runProgram(name: string, { args = [], env = {} }: ProgramOptions = {}): Promise<ProgramResult> {
  const child = spawn(process.execPath, ["--no-warnings", "--expose-gc", compiled(name), ...args], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const result: ProgramResult = { code: null, signal: null, stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => {
    result.stdout += chunk;
  });
  child.stderr.on("data", (chunk: Buffer) => {
    result.stderr += chunk;
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ ...result, code, signal }));
  });
}
