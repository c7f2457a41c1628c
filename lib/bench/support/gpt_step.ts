/** The training step that is measured: a GPT, its loss and gradients, clipping by the global norm, AdamW. */
import { nn, optim, setSeed, Tensor, valueAndGrad } from "../../index.ts";

export type Residual = "plain" | "mhc";

/** Bytes as tokens. On a GPU the size at which the paper states what mHC costs, in bfloat16. */
export const stepSizes = {
  cpu: { vocab: 256, dim: 512, layers: 6, heads: 8, context: 256, batch: 4, dtype: "float32" },
  gpu: { vocab: 256, dim: 2560, layers: 8, heads: 20, context: 2048, batch: 4, dtype: "bfloat16" },
  tiny: { vocab: 256, dim: 16, layers: 1, heads: 2, context: 8, batch: 2, dtype: "bfloat16" },
} as const;
export type StepSizes = (typeof stepSizes)[keyof typeof stepSizes];

export const residuals = { plain: { kind: "plain" }, mhc: { kind: "mhc", streams: 4 } } as const;

/** Builds the model and its optimizer on the current device; returns a function that starts one training step. */
export function gptStep(residual: Residual, { batch, ...sizes }: StepSizes): () => void {
  setSeed(1);
  const model = new nn.GPT({ ...sizes, residual: residuals[residual] });
  const parameters = model.parameters();
  const optimizer = new optim.AdamW(parameters, { lr: 1e-4, weightDecay: 0.1 });
  const tokens = (seed: number) =>
    Tensor.from(
      Int32Array.from({ length: batch * sizes.context }, (_, i) => ((i + seed) * 2654435761) % sizes.vocab),
      [batch, sizes.context],
    );
  const [inputs, targets] = [tokens(0), tokens(1)];
  return () => {
    const [loss, grads] = valueAndGrad(() => model.loss(inputs, targets), parameters);
    const norm = optim.clipGradNorm(grads, 1);
    optimizer.step(grads);
    for (const tensor of [loss, norm, ...grads]) tensor.dispose();
  };
}
