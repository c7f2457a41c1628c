/** Results: one JSON object a line with all conditions they were measured under, and a table for the reader on stderr. */
import { cpus, loadavg } from "node:os";
import { version } from "../../cli/version.ts";
import { currentDevice } from "../../device.ts";
import { LineFile } from "../../files/line_file.ts";
import { native } from "../../native.ts";
import { commit } from "./commit.ts";
import { round, type Timing } from "./measure.ts";
import { type Cell, type Column, Table, wrap } from "./table.ts";

/** What a benchmark found out; keys beyond these (ratios, say) are written as they are. */
export interface Result {
  name: string;
  shape: string;
  dtype: string;
  [key: string]: string | number | boolean | undefined;
}

export function timingFields({ median, p25, p75, samples }: Timing) {
  return { median_ms: round(median), p25: round(p25), p75: round(p75), repeats: samples.length };
}

export interface ReportOptions {
  /** File for the JSON lines, replaced; without it they go to standard output. */
  out?: string;
  /** JSON lines on standard output in any case, and no table. */
  json?: boolean;
}

/** Standard output gets no JSON lines where the table would be on the same screen. */
const toStdout = ({ out, json }: ReportOptions) => json || (out === undefined && !process.stdout.isTTY);

export class Report {
  readonly #file: LineFile | undefined;
  readonly #stdout: boolean;
  readonly #silent: boolean;
  readonly #terminal = process.stderr.columns || 80;
  readonly #conditions;
  #table: Table | undefined;
  #group = "";
  /** All that was added, as written. */
  readonly rows: Result[] = [];

  /** @throws when the file cannot be written */
  constructor(options: ReportOptions) {
    this.#stdout = toStdout(options) ?? false;
    this.#silent = options.json ?? false;
    const { simd, gemm, gpuGemm, threads } = native.info();
    const device = currentDevice();
    const gpu = device === "cpu" ? undefined : native.devices().find((d) => d.name === device)?.description;
    this.#conditions = {
      device,
      gpu,
      gpu_gemm: gpu && gpuGemm,
      cpu: cpus()[0]?.model.trim() ?? "unknown",
      threads,
      simd,
      gemm,
      node: process.version,
      version: version(),
      // Before the file is touched: a tracked one must not count as a change of the code.
      commit: commit(),
      // Later ones contain the benchmark's own load.
      load_average_before: round(loadavg()[0]!, 3),
    };
    if (options.out !== undefined) this.#file = new LineFile(options.out, "bench");
  }

  /** One line, at once, so that an interrupted run keeps what it has. */
  add(result: Result): void {
    const row = {
      ...result,
      ...this.#conditions,
      date: new Date().toISOString(),
      load_average: round(loadavg()[0]!, 3),
    };
    this.rows.push(row);
    this.#file?.append(row);
    if (this.#stdout) process.stdout.write(`${JSON.stringify(row)}\n`);
  }

  close(): void {
    this.#file?.close();
  }

  /** A remark; shown beside JSON lines too. */
  say(text: string): void {
    process.stderr.write(`${wrap(text, this.#terminal)}\n`);
  }

  title(text: string): void {
    if (this.#silent) return;
    const { cpu, device, gpu, threads, simd, gemm, node, load_average_before: load } = this.#conditions;
    // The library's name and version; its build options stand in the JSON.
    const library = [...new Set(gemm.split(" "))].slice(0, 2).join(" ");
    process.stderr.write("\n");
    this.say(text);
    if (gpu) this.say(gpu);
    this.say(`${device}, ${cpu}, threads: ${threads}, ${simd}, ${library}, node ${node}, load average before ${load}`);
    if (load > 0.5) this.say("The machine was not idle: figures below are for comparison within this run only.");
  }

  /** Begins a table. */
  table(label: string, columns: readonly Column[]): void {
    this.#table = new Table(columns, this.#terminal);
    this.#group = "";
    this.#line(`\n${this.#table.head(label)}`);
  }

  /** What the rows that follow have in common, on a line of its own where it changes. */
  group(text: string): void {
    if (text !== this.#group) this.#line(text);
    this.#group = text;
  }

  row(label: string, cells: readonly Cell[]): void {
    this.#line(this.#table!.row(label, cells));
  }

  #line(text: string): void {
    if (!this.#silent) process.stderr.write(`${text}\n`);
  }
}
