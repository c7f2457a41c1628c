/** Results: one JSON object a line with all conditions they were measured under, and a table for the reader on stderr. */
import { appendFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { currentDevice } from "../../lib/device.ts";
import { native } from "../../lib/native.ts";
import { commit } from "../../scripts/commit.ts";
import type { Timing } from "./measure.ts";

/** What a benchmark found out; keys beyond these (ratios, say) are written as they are. */
export interface Result {
  name: string;
  shape: string;
  dtype: string;
  [key: string]: string | number | boolean | undefined;
}

export type Cell = string | number | undefined;

/** Keeps `digits` significant ones: a timing has no more. */
export function round(value: number, digits = 4): number {
  return Number(value.toPrecision(digits));
}

export function timingFields({ median, p25, p75, samples }: Timing) {
  return { median_ms: round(median), p25: round(p25), p75: round(p75), repeats: samples.length };
}

export class Report {
  readonly #out: string | undefined;
  readonly #conditions;

  /** @param out  file to write, replaced; stdout when absent. @throws when it cannot be written */
  constructor(out: string | undefined) {
    this.#out = out;
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
      // Before `out` is touched: a tracked file must not count as a change of the code.
      commit: commit(),
      // Later ones contain the benchmark's own load.
      load_average_before: round(loadavg()[0]!, 3),
    };
    if (out !== undefined) writeFileSync(out, "");
  }

  /** One line, at once, so that an interrupted run keeps what it has. */
  add(result: Result): void {
    const line = JSON.stringify({
      ...result,
      ...this.#conditions,
      date: new Date().toISOString(),
      load_average: round(loadavg()[0]!, 3),
    });
    if (this.#out === undefined) process.stdout.write(`${line}\n`);
    else appendFileSync(this.#out, `${line}\n`);
  }

  /** Free text between rows. */
  say(text: string): void {
    process.stderr.write(`${text}\n`);
  }

  title(text: string): void {
    const { cpu, device, gpu, threads, simd, gemm, node, load_average_before: load } = this.#conditions;
    // The library's name and version; its build options stand in the JSON.
    const library = [...new Set(gemm.split(" "))].slice(0, 2).join(" ");
    this.say(`\n${text}`);
    if (gpu) this.say(gpu);
    this.say(`${device}, ${cpu}, threads: ${threads}, ${simd}, ${library}, node ${node}, load average before ${load}`);
    if (load > 0.5) this.say("The machine was not idle: figures below are for comparison within this run only.");
  }

  /** A row of the table: the first cell to the left, the others to the right. */
  row(cells: readonly Cell[], widths: readonly number[]): void {
    const text = cells.map((cell, i) => {
      const shown = cell === undefined ? "" : typeof cell === "number" ? String(round(cell, 3)) : cell;
      return i === 0 ? shown.padEnd(widths[i]!) : shown.padStart(widths[i]!);
    });
    this.say(text.join("  ").trimEnd());
  }
}
