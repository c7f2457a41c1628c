/** A training step as two graphs: gradients from a batch, and the update, which only good gradients are launched for. */
import { type Batch, batchTensors } from "../data/batches.ts";
import { Graph } from "../graph.ts";
import { native } from "../native.ts";
import type { AdamW } from "../optim/adamw.ts";
import { keep, type Tensor, tidy } from "../tensor.ts";

interface Gradients {
  loss: Tensor;
  norm: Tensor;
  grads: Tensor[];
}

export class RecordedStep {
  readonly #batch: { tokens: Tensor; targets: Tensor };
  #gradients: Graph<Gradients> | undefined;
  #update: ReturnType<AdamW["recordStep"]> | undefined;

  /** @param example  a batch of the size that all will have   @throws {DeviceError} see {@link Graph.record} */
  constructor(
    example: Batch,
    step: {
      device: string | undefined;
      optimizer: AdamW;
      gradients: (tokens: Tensor, targets: Tensor) => Gradients;
    },
  ) {
    this.#batch = tidy(() => {
      const { tokens, targets } = batchTensors(example, { device: step.device });
      return { tokens: keep(tokens), targets: keep(targets) };
    });
    const { tokens, targets } = this.#batch;
    try {
      this.#gradients = Graph.record(tokens.device, () => step.gradients(tokens, targets));
      this.#update = step.optimizer.recordStep(this.#gradients.result.grads);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Queues the gradients of a batch. */
  launch(batch: Batch) {
    native.tensorWrite(this.#batch.tokens.handle, batch.tokens);
    native.tensorWrite(this.#batch.targets.handle, batch.targets);
    this.#gradients!.launch();
    const { loss, norm } = this.#gradients!.result;
    return { loss, norm, update: (lr: number) => this.#update!.step({ lr }), release: () => {} };
  }

  dispose(): void {
    this.#update?.dispose();
    this.#gradients?.dispose();
    this.#batch.tokens.dispose();
    this.#batch.targets.dispose();
  }
}
