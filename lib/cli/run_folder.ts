/**
 * What `--out` gets: metrics.jsonl, timing.jsonl, model.safetensors, config.json.
 *
 * Nothing in metrics.jsonl depends on time, so two runs with the same seed give identical files; speeds stand in timing.jsonl.
 */
import { mkdirSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError } from "../errors.ts";
import { writeAtomically } from "../files/atomic.ts";
import { LineFile, OutputError } from "../files/line_file.ts";
import type { GPT, GPTOptions } from "../nn/gpt.ts";
import type { Metrics } from "../train/fit.ts";

export type Row = Record<string, number>;

/** Metrics under the names of the files, without anything that depends on time. */
export function metricsRow(m: Metrics): Row {
  const row: Row = { step: m.step, "train/loss": m.loss, "train/grad_norm": m.gradNorm, "train/lr": m.lr };
  if (m.heldOutLoss !== undefined) row["eval/loss"] = m.heldOutLoss;
  if (!m.diagnostics) return row;
  const { connections, composite } = m.diagnostics;
  for (const [name, gains] of [
    ...connections.map((c, l) => [`connection/${l}`, c] as const),
    ["composite", composite] as const,
  ]) {
    row[`${name}/forward_gain`] = gains.forward;
    row[`${name}/backward_gain`] = gains.backward;
    row[`${name}/row_error`] = gains.rowError;
    row[`${name}/column_error`] = gains.columnError;
  }
  return row;
}

/** Speed, under the names of the files. */
export function timingRow(m: Metrics): Row {
  return { step: m.step, "train/tokens_per_second": m.tokensPerSecond, "train/seconds": m.seconds };
}

export class RunFolder {
  readonly #metrics: LineFile;
  readonly #timing: LineFile;

  /** @throws {OutputError} the folder cannot be made or written to */
  constructor(readonly path: string) {
    // Only what this run made is removed again.
    let made: string | undefined;
    let metrics: LineFile | undefined;
    try {
      made = mkdirSync(path, { recursive: true });
      metrics = new LineFile(join(path, "metrics.jsonl"), "train");
      this.#metrics = metrics;
      this.#timing = new LineFile(join(path, "timing.jsonl"), "train");
    } catch (error) {
      metrics?.close();
      if (made) rmSync(path, { recursive: true, force: true });
      throw new OutputError(`train: --out ${path} cannot be written: ${(error as Error).message}`);
    }
  }

  append(metrics: Metrics): void {
    this.#metrics.append(metricsRow(metrics));
    this.#timing.append(timingRow(metrics));
  }

  /** Writes model and configuration. @throws {CheckpointError | OutputError} nothing half-written stays */
  async save(model: GPT, config: RunConfig): Promise<void> {
    await model.save(join(this.path, "model.safetensors"));
    const file = join(this.path, "config.json");
    try {
      await writeAtomically(file, [Buffer.from(`${JSON.stringify(config, undefined, 2)}\n`)]);
    } catch (error) {
      throw new OutputError(`train: cannot write ${file}: ${(error as Error).message}`);
    }
  }

  close(): void {
    this.#metrics.close();
    this.#timing.close();
  }
}

/** config.json: what is needed to build the model again. */
export interface RunConfig {
  format: "birkhoff-run";
  /** Of the package that wrote it. */
  version: string;
  model: GPTOptions;
  /** Characters of the text's vocabulary; null for token files. */
  vocabulary: readonly string[] | null;
  /** Flags of the run. */
  training: Record<string, unknown>;
}

/** @throws {CheckpointError} config.json is missing or damaged */
export async function readConfig(folder: string): Promise<RunConfig> {
  const file = join(folder, "config.json");
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    throw new CheckpointError(`generate: cannot read ${file}: ${(error as Error).message}`);
  }
  let config: Partial<RunConfig> | null;
  try {
    config = JSON.parse(text) as Partial<RunConfig> | null;
  } catch (error) {
    throw new CheckpointError(`generate: ${file} is damaged: ${(error as Error).message}`);
  }
  const { vocabulary } = config ?? {};
  const known =
    vocabulary === null || (Array.isArray(vocabulary) && vocabulary.every((c: unknown) => typeof c === "string"));
  if (config?.format !== "birkhoff-run" || typeof config.model !== "object" || config.model === null || !known)
    throw new CheckpointError(`generate: ${file} is damaged: want format "birkhoff-run" with model and vocabulary`);
  return config as RunConfig;
}
