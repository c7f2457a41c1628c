/** The report of a verification: one JSON object and one Markdown page, replaced as a whole after every part. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { writeAtomically } from "../../lib/files/atomic.ts";
import type { Findings, Row } from "./stage.ts";

export type Status = "passed" | "failed" | "out of time" | "not run";

export interface StageResult extends Omit<Findings, "passed" | "outOfTime"> {
  name: string;
  status: Status;
  required: boolean;
  seconds: number;
  budget: number;
}

export interface Conditions {
  device: string;
  gpu: string;
  driver: string | null;
  cuda: string | null;
  toolkit: string | null;
  clocks: Row | null;
  gemm: string | null;
  processor: string;
  node: string;
  commit: string;
  date: string;
}

export interface Verification {
  /** False while it runs: what is there then is all that an interrupted run leaves. */
  complete: boolean;
  passed: boolean;
  seconds: number;
  conditions: Conditions;
  stages: StageResult[];
}

/** Whether nothing that counts went wrong. */
export function allPassed(stages: readonly StageResult[]): boolean {
  return stages.length > 0 && stages.every((s) => s.status === "passed" || !s.required);
}

/** nvidia-h200 of "NVIDIA H200, compute capability 9.0". */
export function slug(gpu: string): string {
  return gpu
    .split(",")[0]!
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
}

const cell = (value: unknown) =>
  value === undefined || value === null ? "" : String(value).replaceAll("|", "\\|").replaceAll("\n", " ");

function table(head: readonly string[], rows: readonly (readonly unknown[])[]): string {
  const line = (cells: readonly unknown[]) => `| ${cells.map(cell).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

const percent = (share: unknown) => (typeof share === "number" ? `${(100 * share).toFixed(0)} %` : "");

function benchRow(r: Row): unknown[] {
  const graph = r.graph_us ?? (r.graph_error ? "failed" : "");
  if (r.skipped !== undefined) return [r.name, r.shape, r.dtype, "does not fit", "", "", "", "", ""];
  const figures = [r.events_us, graph, r.floor_us, r.gb_per_s, percent(r.share_of_copy)];
  const copies = r.copy === undefined ? "" : `${r.driver_copy_gb_per_s} / ${r.kernel_copy_gb_per_s}`;
  return [r.name, r.shape, r.dtype, ...figures, copies];
}

export function markdown({ complete, passed, seconds, conditions: c, stages }: Verification): string {
  const facts: [string, unknown][] = [
    ["GPU", c.gpu],
    ["driver", c.driver],
    ["CUDA of the driver", c.cuda],
    ["CUDA toolkit", c.toolkit],
    ["GEMM", c.gemm],
    ["processor", c.processor],
    ["Node", c.node],
    ["commit", c.commit],
    ["date", c.date],
    ...Object.entries(c.clocks ?? {}).map(([name, value]): [string, unknown] => [name, value]),
  ];
  const verdict = complete ? (passed ? "all passed" : "something failed") : "not finished";
  const parts = [
    `# ${c.gpu}: ${verdict}`,
    `${Math.round(seconds)} s in all.`,
    table(["", ""], facts),
    "## Parts",
    table(
      ["part", "result", "seconds", "of", ""],
      stages.map((s) => [
        s.name,
        s.required ? s.status : `${s.status} (does not count)`,
        s.seconds.toFixed(1),
        s.budget,
        s.note,
      ]),
    ),
  ];
  const measured = stages.flatMap((s) => s.rows ?? []);
  if (measured.length > 0)
    parts.push(
      "## Kernels",
      "Microseconds by events and by graph replay, medians, cold L2. Bytes: each input read once, each output written once. Floor: as many bytes at the rate of a copy of the op's bytes in the same run, the driver's or that of a kernel of 16-byte pieces (last column), whichever is faster; % copy: floor / µs.",
      table(
        ["kernel", "shape", "dtype", "µs", "graph µs", "floor µs", "GB/s", "% copy", "copy GB/s: driver / kernel"],
        measured.map(benchRow),
      ),
    );
  for (const s of stages.filter((s) => s.output))
    parts.push(`## Output of ${s.name}`, `\`\`\`\n${s.output!.replaceAll("```", "'''")}\n\`\`\``);
  return `${parts.join("\n\n")}\n`;
}

/** Writes FOLDER/<device>-<date>.json and .md; returns the path without the ending. */
export async function writeReport(folder: string, verification: Verification): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const { gpu, date } = verification.conditions;
  const path = join(folder, `${slug(gpu)}-${date.slice(0, 10)}`);
  await writeAtomically(`${path}.json`, [Buffer.from(`${JSON.stringify(verification, null, 1)}\n`)]);
  await writeAtomically(`${path}.md`, [Buffer.from(markdown(verification))]);
  return path;
}
