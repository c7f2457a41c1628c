/**
 * Whether an addon computes: every op against stored results of the CPU, 20 training steps against stored losses, a model saved and
 * loaded. For where the tests cannot run: another processor, by its emulator.  smoke.ts <stored.json> [--write]
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { optim, setDevice, valueAndGrad } from "../../../lib/index.ts";
import { native } from "../../../lib/native.ts";
import { type Checksums, differences, everyChecksum } from "../../support/checksums.ts";
import { type TinyTraining, tinyTraining } from "../../support/every_op.ts";

setDevice("cpu");

async function trainedLosses({ model, optimizer, tokens, targets }: TinyTraining): Promise<number[]> {
  const losses: number[] = [];
  for (let step = 0; step < 20; step++) {
    const [loss, grads] = valueAndGrad(() => model.loss(tokens, targets), model.parameters());
    optim.clipGradNorm(grads, 1).dispose();
    optimizer.step(grads, { lr: 0.01 });
    losses.push(await loss.item());
    for (const tensor of [loss, ...grads]) tensor.dispose();
  }
  return losses;
}

/** The model's loss, and that of another one that reads its file. */
async function savedAndLoaded({ model, tokens, targets }: TinyTraining): Promise<[number, number]> {
  const folder = mkdtempSync(join(tmpdir(), "birkhoff-smoke-"));
  const other = tinyTraining(2);
  try {
    await model.save(join(folder, "model.safetensors"));
    await other.model.load(join(folder, "model.safetensors"));
    return [await model.loss(tokens, targets).item(), await other.model.loss(tokens, targets).item()];
  } finally {
    other.dispose();
    rmSync(folder, { recursive: true });
  }
}

const training = tinyTraining();
const results = everyChecksum();
const losses = await trainedLosses(training);
const [saved, loaded] = await savedAndLoaded(training);

const [file, write] = process.argv.slice(2);
if (write === "--write") writeFileSync(file!, `${JSON.stringify({ results, losses }, null, 2)}\n`);
const stored = JSON.parse(readFileSync(file!, "utf8")) as { results: Checksums; losses: number[] };
const problems = differences(results, stored.results);
// Roundings of 20 steps of float32.
for (const [i, loss] of losses.entries())
  if (!(Math.abs(loss - stored.losses[i]!) <= 1e-4)) problems.push(`loss ${i}: ${loss}, want ${stored.losses[i]}`);
if (!(losses.at(-1)! < losses[0]! - 0.5)) problems.push(`20 steps took the loss from ${losses[0]} to ${losses.at(-1)}`);
if (saved !== loaded) problems.push(`the loaded model's loss is ${loaded}, that of the saved one ${saved}`);
const { simd } = native.info();
console.log(`${process.arch}, ${simd}: ${Object.keys(results).length} ops, loss ${losses[0]} -> ${losses.at(-1)}`);
for (const problem of problems) console.error(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
