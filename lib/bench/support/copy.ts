/**
 * The yardstick of a memory-bound kernel: how fast this machine copies, on the same number of threads, in the same run.
 *
 * Two ways to copy are timed in turn with the kernel, and the faster one counts:
 *   library  the addon's strided copy of a contiguous tensor: memcpy of 64 KiB pieces over the thread pool
 *   memmove  one worker thread per share, each `TypedArray.set` of private buffers: libc's memmove of large blocks, which
 *            bypasses the cache for the write where that pays
 * Bytes are read + written, so a copy of b bytes reads b/2 and writes b/2.
 */

import { Worker } from "node:worker_threads";
import { currentDevice } from "../../device.ts";
import { native } from "../../native.ts";
import { Tensor } from "../../tensor.ts";
import type { Candidate } from "./measure.ts";

/** Beyond the caches bandwidth no longer depends on the size, and larger buffers would only cost memory. */
const largest = 256 * 2 ** 20;

/** One thread of the copy: plain memmove of buffers of its own, started and counted through `control`. Names nothing around it. */
function copyLoop({ control, threads }: { control: Int32Array; threads: number }): void {
  let source = new Uint8Array(0);
  let target = new Uint8Array(0);
  for (let generation = 0; ; ) {
    Atomics.wait(control, 0, generation);
    generation = Atomics.load(control, 0);
    const [, , bytes, times] = control;
    if (bytes! < 0) break;
    const share = Math.ceil(bytes! / threads);
    if (source.length !== share) {
      source = new Uint8Array(share).fill(1);
      target = new Uint8Array(share).fill(2);
    }
    for (let i = 0; i < times!; i++) target.set(source);
    Atomics.add(control, 1, 1);
    Atomics.notify(control, 1);
  }
}

export class CopyYardstick {
  // 0: generation, 1: threads done, 2: bytes to copy, 3: times.
  readonly #control = new Int32Array(new SharedArrayBuffer(16));
  readonly #workers: Worker[];

  constructor(threads: number) {
    const workerData = { control: this.#control, threads };
    // As text: a loader of TypeScript does not reach a worker's file.
    const program = `(${copyLoop})(require("node:worker_threads").workerData)`;
    this.#workers = Array.from({ length: threads }, () => new Worker(program, { eval: true, workerData }));
    for (const worker of this.#workers) worker.unref();
  }

  #start(bytes: number, times: number): void {
    const control = this.#control;
    control[1] = 0;
    control[2] = bytes;
    control[3] = times;
    Atomics.add(control, 0, 1);
    Atomics.notify(control, 0);
  }

  #wait(): void {
    for (let done = 0; done < this.#workers.length; done = Atomics.load(this.#control, 1))
      Atomics.wait(this.#control, 1, done, 1000);
  }

  /** Candidates that move `bytes` in all (or `largest`), and what they move. */
  candidates(bytes: number): { moved: number; candidates: Candidate[]; dispose(): void } {
    const size = Math.max(64, Math.floor(Math.min(bytes, largest) / 8));
    const source = Tensor.ones([size]);
    const target = Tensor.zeros([size]);
    // A worker has no queue: runs are counted and started together.
    let pending = 0;
    return {
      moved: size * 8,
      candidates: [
        {
          name: "library",
          run: () => native.stridedCopy(source.handle, target.handle, [size], [1], 0, [1], 0),
          finish: () => native.synchronize(currentDevice()),
        },
        {
          name: "memmove",
          run: () => {
            pending++;
          },
          finish: () => {
            this.#start(size * 4, pending);
            this.#wait();
            pending = 0;
          },
        },
      ],
      dispose: () => {
        source.dispose();
        target.dispose();
      },
    };
  }

  async close(): Promise<void> {
    this.#start(-1, 0);
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}
