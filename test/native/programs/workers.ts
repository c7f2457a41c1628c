/**
 * Worker threads with queued work, terminated at different moments. workers.ts <count> <load in main thread: 0 or 1> <let them finish: 0 or 1>
 *
 * Without the addon in the main thread the last worker takes the runtime down while the next one may be starting it.
 */
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker } from "node:worker_threads";

const [count, inMain, finish] = process.argv.slice(2, 5).map(Number) as [number, number, number];

async function main(): Promise<void> {
  if (inMain) await import("../../../lib/index.ts");
  for (let batch = 0; batch < count; batch += 4)
    await Promise.all(
      Array.from({ length: Math.min(4, count - batch) }, async (_, i) => {
        // A worker does not inherit the loader of TypeScript.
        const file = fileURLToPath(import.meta.url);
        const start = `
          const file = ${JSON.stringify(file)};
          if (file.endsWith(".ts")) import("tsx/esm/api").then(({ register }) => { register(); return import(file); });
          else import(file);`;
        const worker = new Worker(start, { eval: true, argv: process.argv.slice(2) });
        await new Promise<void>((resolve, reject) => {
          worker.on("error", reject);
          worker.on("exit", () => resolve());
          worker.once("message", () => {
            if (!finish) setTimeout(() => worker.terminate(), 3 * (batch + i));
          });
        });
      }),
    );
}

async function work(): Promise<void> {
  const { memory, ops, setThreads, Tensor, tidy, valueAndGrad } = await import("../../../lib/index.ts");
  const x = Tensor.randn([64, 64]);
  for (let i = 0; i < (finish ? 20 : 1e6); i++) {
    if (i % 7 === 0) setThreads(1 + (i % 3));
    const reads: Promise<unknown>[] = [];
    tidy(() => {
      const [value] = valueAndGrad(() => ops.sum(ops.gelu(ops.matmul(x, x))), [x]);
      reads.push(value.data(), value.data());
      value.dataSync();
    });
    memory();
    if (i === 1) parentPort!.postMessage("busy");
    await Promise.all(reads);
  }
}

if (isMainThread) await main();
else await work();
