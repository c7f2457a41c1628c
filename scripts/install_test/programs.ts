/** The same five steps of training in every form that a user may write them; each prints its losses as JSON. */
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const body = `
  birkhoff.setDevice("cpu");
  const results = [];
  for (const threads of [1, 2]) {
    birkhoff.setThreads(threads);
    birkhoff.setSeed(0);
    const dataset = await birkhoff.data.textFile(process.env.TEXT);
    const model = new birkhoff.nn.GPT({ vocab: dataset.vocab, dim: 32, layers: 1, heads: 2, context: 32, residual: { kind: "mhc", streams: 4 } });
    const options = { steps: 5, batch: 4, context: 32, lr: 1e-3, minLr: 1e-4, betas: [0.9, 0.99], log: 1 };
    const losses = [];
    for await (const { loss } of birkhoff.train.fit(model, dataset, options)) losses.push(loss);
    results.push(losses);
  }`;

const programs: Record<string, string> = {
  "esm.mjs": `import * as birkhoff from "birkhoff";${body}\nconsole.log(JSON.stringify(results));\n`,
  "require.cjs": `const birkhoff = require("birkhoff");
(async () => {${body}\nconsole.log(JSON.stringify(results));\n})();\n`,
  "worker.mjs": `import { isMainThread, parentPort, Worker } from "node:worker_threads";
if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url));
  worker.on("message", (results) => console.log(JSON.stringify(results)));
  worker.on("error", (error) => { throw error; });
} else {
  const birkhoff = await import("birkhoff");${body}
  parentPort.postMessage(results);
}\n`,
  "without.mjs": `import * as birkhoff from "birkhoff";
try { birkhoff.Tensor.ones([2]); console.log("{}"); } catch (e) {
  console.log(JSON.stringify({ typed: e instanceof birkhoff.AddonError && e instanceof birkhoff.BirkhoffError, code: e.code, message: e.message }));
}\n`,
};

export type Way = "ESM" | "require()" | "worker" | "CLI";
export const ways: readonly Way[] = ["ESM", "require()", "worker", "CLI"];
export const files: Record<Exclude<Way, "CLI">, string> = {
  ESM: "esm.mjs",
  "require()": "require.cjs",
  worker: "worker.mjs",
};

/** The flags that make the command train the same. */
export const trainFlags = [
  ..."train --data text.txt --steps 5 --batch 4 --context 32 --dim 32 --layers 1 --heads 2 --residual mhc".split(" "),
  ..."--streams 4 --lr 0.001 --min-lr 0.0001 --warmup 0 --log-every 1 --seed 0 --device cpu --json".split(" "),
];

export function writePrograms(folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(programs)) writeFileSync(join(folder, name), text);
  copyFileSync(join(folder, "node_modules/birkhoff/lib/data/sample.txt"), join(folder, "text.txt"));
}
