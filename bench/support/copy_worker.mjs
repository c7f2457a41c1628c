/** One thread of the copy that `copy.ts` measures: plain memmove of buffers of its own, started and counted through `control`. */
import { workerData } from "node:worker_threads";

const { control, threads } = workerData;
let source = new Uint8Array(0);
let target = new Uint8Array(0);
for (let generation = 0; ; ) {
  Atomics.wait(control, 0, generation);
  generation = Atomics.load(control, 0);
  const share = Math.ceil(control[2] / threads);
  if (share < 0 || control[2] < 0) break;
  if (source.length !== share) {
    source = new Uint8Array(share).fill(1);
    target = new Uint8Array(share).fill(2);
  }
  for (let i = 0; i < control[3]; i++) target.set(source);
  Atomics.add(control, 1, 1);
  Atomics.notify(control, 1);
}
