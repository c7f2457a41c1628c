/**
 * A program of the CPU: trains a step, saves, loads, exits; then the same in a worker and in a child process.
 * cpu_only.ts <"chosen", by setDevice, "named", in each call, or "auto", neither> <folder to save in>
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isMainThread, threadId, Worker } from "node:worker_threads";
import { memory, resetPeakMemory, setDevice, setMemoryBudget, setThreads, synchronize } from "../../../lib/index.ts";
import { tinyTraining } from "../../support/every_op.ts";
import { trainingSteps } from "../../support/training_step.ts";

const [how, folder, isChild] = process.argv.slice(2) as [string, string, string?];

async function work(): Promise<void> {
  if (how === "chosen") setDevice("cpu");
  setThreads(1);
  setMemoryBudget(2 ** 30);
  const training = tinyTraining(1, how === "named" ? "cpu" : undefined);
  for (const step of Object.values(trainingSteps)) await step(training, "cpu");
  const file = join(folder, `${process.pid}-${threadId}.safetensors`);
  await training.model.save(file);
  await training.model.load(file);
  await synchronize("cpu");
  resetPeakMemory();
  training.dispose();
  if (isMainThread && memory().tensors !== 0) throw new Error("tensors are left");
}

async function inWorker(): Promise<void> {
  // A worker does not inherit the loader of TypeScript.
  const start = `import("tsx/esm/api").then(({ register }) => { register(); return import(${JSON.stringify(import.meta.url)}); });`;
  const worker = new Worker(start, { eval: true, argv: process.argv.slice(2) });
  await new Promise<void>((resolve, reject) => {
    worker.on("error", reject);
    worker.on("exit", (code) => (code === 0 ? resolve() : reject(new Error(`the worker ended with ${code}`))));
  });
}

function inChild(): void {
  const args = [...process.execArgv, fileURLToPath(import.meta.url), how, folder, "child"];
  const { status } = spawnSync(process.execPath, args, { stdio: ["ignore", "ignore", "inherit"] });
  if (status !== 0) throw new Error(`the child ended with ${status}`);
}

await work();
if (isMainThread && !isChild) {
  await inWorker();
  inChild();
  console.log("main, worker, child");
}
// Its handlers run, with the addon still there.
if (isMainThread) process.exit(0);
