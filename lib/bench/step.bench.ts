/**
 * What hyper-connections cost a whole training step: a GPT, mHC n = 4 over plain; on a GPU a larger one.
 * Time is interleaved in this process; peak memory is measured in a process per model.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { currentDevice } from "../device.ts";
import { native } from "../native.ts";
import { gptStep, type Residual, residuals, stepSizes } from "./support/gpt_step.ts";
import { interleaved, ratio, round } from "./support/measure.ts";
import { siblingProgram } from "./support/package_root.ts";
import { type Report, timingFields } from "./support/report.ts";
import type { StepMemory } from "./support/step_memory.ts";

const names = Object.keys(residuals) as Residual[];
const columns = [
  { head: "ms", width: 9 },
  { head: "quartiles", width: 19, spare: 1 },
  { head: "tokens/s", width: 10 },
  { head: "peak MiB", width: 10 },
  { head: "RSS MiB", width: 10 },
];

async function peakMemory(residual: Residual, sizes: keyof typeof stepSizes): Promise<StepMemory> {
  const child = fork(siblingProgram("step_memory"), [residual, String(native.info().threads), currentDevice(), sizes]);
  const kill = () => child.kill();
  process.once("exit", kill);
  const failed = once(child, "exit").then(([code, signal]) => {
    throw new Error(`the memory measurement of ${residual} ended early (code ${code}, signal ${signal})`);
  });
  const [memory] = (await Promise.race([once(child, "message"), failed])) as [StepMemory];
  failed.catch(() => {});
  process.off("exit", kill);
  return memory;
}

export async function runSteps(report: Report, repeats: number, chosen: keyof typeof stepSizes): Promise<void> {
  const sizes = stepSizes[chosen];
  const { dim, layers, heads, context, batch, vocab, dtype } = sizes;
  const shape = `dim=${dim} layers=${layers} heads=${heads} context=${context} batch=${batch} vocab=${vocab}`;
  report.title(`Training step, ${shape}, ${dtype}, clipping and AdamW included`);
  report.table("residual", columns);
  const memories: StepMemory[] = [];
  for (const name of names) memories.push(await peakMemory(name, chosen));
  const timings = await interleaved(
    names.map((name) => ({ name, run: gptStep(name, sizes), finish: () => native.synchronize(currentDevice()) })),
    { repeats, sampleMs: 1 },
  );
  for (const [i, t] of timings.entries()) {
    const { peakBytes, peakRss, baseRss } = memories[i]!;
    const tokensPerSecond = round((batch * context * 1000) / t.median);
    report.add({
      name: `step ${t.name}`,
      shape,
      dtype,
      ...timingFields(t),
      tokens_per_s: tokensPerSecond,
      peak_bytes: peakBytes,
      peak_rss: peakRss,
      base_rss: baseRss,
    });
    const quartiles = `${round(t.p25, 4)} – ${round(t.p75, 4)}`;
    report.row(t.name, [t.median, quartiles, tokensPerSecond, peakBytes / 2 ** 20, peakRss / 2 ** 20]);
  }
  const [plain, mhc] = [names.indexOf("plain"), names.indexOf("mhc")];
  const time = ratio(timings[mhc]!, timings[plain]!);
  const over = (key: keyof StepMemory) => memories[mhc]![key] / memories[plain]![key];
  report.add({
    name: "step mhc / plain",
    shape,
    dtype,
    ratio: round(time.ratio),
    ratio_p25: round(time.p25),
    ratio_p75: round(time.p75),
    repeats,
    peak_bytes_ratio: round(over("peakBytes")),
    peak_rss_ratio: round(over("peakRss")),
  });
  const quartiles = `${round(time.p25, 4)} – ${round(time.p75, 4)}`;
  report.row("mhc / plain", [round(time.ratio).toFixed(3), quartiles, "", over("peakBytes"), over("peakRss")]);
}
