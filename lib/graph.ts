/** Work recorded once and launched many times: what `fit({ graph: true })` does with a training step. */
import { DeviceError } from "./errors.ts";
import { type NativeGraph, native } from "./native.ts";
import { nextSeed, refuseSeeds } from "./random.ts";
import { tensorsIn } from "./scope.ts";
import { isTensor, keep, Tensor, tidy } from "./tensor.ts";

/** @internal The seed of one random draw: a number, or the number of a seed in `seeds`. */
export interface Draw {
  seeds?: Tensor;
  seed: number;
}

/** Seeds that a recorded piece of work reads at each launch. Blocks of some, because nobody knows how many it will want. */
class Seeds {
  static readonly perBlock = 64;
  readonly #blocks: Tensor[] = [];
  #count = 0;

  constructor(readonly device: string) {}

  add(): Draw {
    const seed = this.#count++ % Seeds.perBlock;
    if (seed === 0) this.#blocks.push(keep(Tensor.empty([2 * Seeds.perBlock], "int32", this.device)));
    return { seeds: this.#blocks.at(-1)!, seed };
  }

  /** Draws as many seeds as were recorded, in their order, as running the work again would. */
  write(): void {
    for (const [i, block] of this.#blocks.entries()) {
      const words = new Uint32Array(2 * Seeds.perBlock);
      for (let k = 0; k < Math.min(Seeds.perBlock, this.#count - i * Seeds.perBlock); k++) {
        const seed = nextSeed();
        words.set([seed % 2 ** 32, Math.floor(seed / 2 ** 32)], 2 * k);
      }
      native.tensorWrite(block.handle, new Int32Array(words.buffer));
    }
  }

  dispose(): void {
    for (const block of this.#blocks) block.dispose();
  }
}

let recorded: Seeds | undefined;

/** @internal The next seed of the sequence; while a graph is recorded, the place where its launches will find theirs. */
export function drawSeed(): Draw {
  return recorded ? recorded.add() : { seed: nextSeed() };
}

/**
 * Recorded work and the tensors it makes, which have new values after each launch.
 *
 * While `fn` is recorded nothing runs. It may do what only queues work: ops and gradients. It must not read a tensor, and must do the
 * same at every step: what it takes from JavaScript (numbers, arrays, branches) is fixed by the recording.
 * Tensors from before are read where they are at each launch, so new inputs are written into the same tensors. Dropout draws
 * new seeds at every launch; other draws of random numbers are refused.
 */
export class Graph<T> {
  readonly #graph: NativeGraph;
  readonly #seeds: Seeds;

  private constructor(
    graph: NativeGraph,
    seeds: Seeds,
    /** What `fn` returned. Its tensors belong to the graph. */
    readonly result: T,
  ) {
    this.#graph = graph;
    this.#seeds = seeds;
  }

  /**
   * @throws {DeviceError} a read, a random draw or a second recording inside `fn`; the device cannot record
   * @throws what `fn` throws; nothing stays allocated
   */
  static record<T>(device: string, fn: () => T): Graph<T> {
    native.beginCapture(device);
    const seeds = new Seeds(device);
    recorded = seeds;
    refuseSeeds(
      () => new DeviceError("random numbers are drawn while a graph is recorded, want a seed; only dropout draws anew"),
    );
    try {
      const result = tidy(() => {
        const value = fn();
        for (const tensor of tensorsIn(value, isTensor)) keep(tensor);
        return value;
      });
      try {
        return new Graph(native.endCapture(device), seeds, result);
      } catch (error) {
        for (const tensor of tensorsIn(result, isTensor)) tensor.dispose();
        throw error;
      }
    } catch (error) {
      native.cancelCapture(device);
      seeds.dispose();
      throw error;
    } finally {
      recorded = undefined;
      refuseSeeds(undefined);
    }
  }

  /** Queues the work once more. */
  launch(): void {
    this.#seeds.write();
    this.#graph.launch();
  }

  /** Frees the graph and what it made. Launches that are queued still run. */
  dispose(): void {
    for (const tensor of tensorsIn(this.result, isTensor)) tensor.dispose();
    this.#seeds.dispose();
    this.#graph.dispose();
  }
}
