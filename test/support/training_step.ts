/** A training step as a test runs it: its ops queued one by one, or recorded and launched. */
import { Graph } from "../../lib/graph.ts";
import { optim, type Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import type { TinyTraining } from "./every_op.ts";

function gradients({ model, tokens, targets }: TinyTraining): { loss: Tensor; grads: Tensor[] } {
  const [loss, grads] = valueAndGrad(() => model.loss(tokens, targets), model.parameters());
  optim.clipGradNorm(grads, 1);
  return { loss, grads };
}

/** Loss and weights after a step. */
export const trainingSteps: Record<string, (training: TinyTraining, on: string) => Promise<Float32Array[]>> = {
  async queued(training) {
    const loss = tidy(() => {
      const { loss, grads } = gradients(training);
      training.optimizer.step(grads);
      return loss;
    });
    return read([loss, ...training.model.parameters()], [loss]);
  },
  async recorded(training, on) {
    const graph = Graph.record(on, () => gradients(training));
    try {
      graph.launch();
      training.optimizer.step(graph.result.grads);
      return await read([graph.result.loss, ...training.model.parameters()], []);
    } finally {
      graph.dispose();
    }
  },
};

async function read(tensors: Tensor[], owned: Tensor[]): Promise<Float32Array[]> {
  try {
    // All of them, so that nothing is under way once this has failed.
    const reads = await Promise.allSettled(tensors.map((t) => t.data()));
    const failed = reads.find((r) => r.status === "rejected");
    if (failed) throw failed.reason;
    return reads.map((r) => (r as PromiseFulfilledResult<Float32Array>).value);
  } finally {
    for (const t of owned) t.dispose();
  }
}
