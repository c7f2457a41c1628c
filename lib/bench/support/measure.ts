/**
 * Interleaved timing. Candidates take turns within one run, so that a slow minute of the machine hits all of them alike, and
 * figures that are divided by each other come from the same minutes.
 */
import { performance } from "node:perf_hooks";

/** Something to time. `run` starts the work once; `finish` waits until all work started so far is done. */
export interface Candidate {
  name: string;
  run(): void;
  finish(): void | Promise<void>;
}

export interface MeasureOptions {
  /** Samples per candidate. */
  repeats: number;
  /** A sample repeats a short candidate until it lasts about this long, so that waiting for the queue costs little. */
  sampleMs?: number;
  /** Untimed runs before the first sample. */
  warmup?: number;
}

/** Milliseconds per run; `samples` in the order taken, so that sample i of every candidate belongs to round i. */
export interface Timing {
  name: string;
  median: number;
  p25: number;
  p75: number;
  samples: number[];
}

/** The q-quantile of unsorted values, linear between neighbours. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const below = sorted[Math.floor(at)]!;
  const above = sorted[Math.ceil(at)]!;
  return below + (above - below) * (at - Math.floor(at));
}

export function timing(name: string, samples: number[]): Timing {
  return { name, samples, median: quantile(samples, 0.5), p25: quantile(samples, 0.25), p75: quantile(samples, 0.75) };
}

/** Keeps `digits` significant ones: a timing has no more. */
export function round(value: number, digits = 4): number {
  return Number(value.toPrecision(digits));
}

async function timed(candidate: Candidate, runs: number): Promise<number> {
  const start = performance.now();
  for (let i = 0; i < runs; i++) candidate.run();
  await candidate.finish();
  return (performance.now() - start) / runs;
}

/** Times all candidates in rounds; each round starts with another one, since whoever follows whom matters to the caches. */
export async function interleaved(candidates: readonly Candidate[], options: MeasureOptions): Promise<Timing[]> {
  const { repeats, sampleMs = 4, warmup = 2 } = options;
  const runs: number[] = [];
  for (const candidate of candidates) {
    for (let i = 0; i < warmup; i++) await timed(candidate, 1);
    runs.push(Math.min(256, Math.max(1, Math.ceil(sampleMs / (await timed(candidate, 1))))));
  }
  const samples = candidates.map((): number[] => []);
  for (let round = 0; round < repeats; round++)
    for (let step = 0; step < candidates.length; step++) {
      const c = (round + step) % candidates.length;
      samples[c]!.push(await timed(candidates[c]!, runs[c]!));
    }
  return candidates.map((c, i) => timing(c.name, samples[i]!));
}

/** Quartiles of a[i] / b[i] over the rounds, and the ratio of the medians. */
export function ratio(a: Timing, b: Timing): { ratio: number; p25: number; p75: number } {
  const perRound = a.samples.map((value, i) => value / b.samples[i]!);
  return { ratio: a.median / b.median, p25: quantile(perRound, 0.25), p75: quantile(perRound, 0.75) };
}
