/** What a part of the verification gets and gives. */
import { existsSync, readFileSync } from "node:fs";
import { type ChildOptions, type Outcome, runChild, tail } from "./child.ts";

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
  /** It did not end by itself. */
  outOfTime?: boolean;
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

export const node = (setup: Setup, args: readonly string[], options: Omit<ChildOptions, "cwd">) =>
  runChild(process.execPath, ["--no-warnings", ...args], {
    ...options,
    cwd: setup.root,
    env: { BIRKHOFF_ADDON: setup.addon, ...options.env },
  });

export const failure = (outcome: Outcome, note?: string): Findings => ({
  passed: false,
  outOfTime: outcome.outOfTime,
  note:
    note ??
    (outcome.outOfTime ? "out of time" : outcome.error ? `not started: ${outcome.error}` : `exit code ${outcome.code}`),
  output: tail(outcome),
});

/** The whole JSON lines of a file, where there is one: a program that was ended may leave half a line. */
export function lines<T = Row>(file: string): T[] {
  if (!existsSync(file)) return [];
  const parsed: T[] = [];
  for (const line of readFileSync(file, "utf8").split("\n")) if (line.endsWith("}")) parsed.push(JSON.parse(line) as T);
  return parsed;
}
