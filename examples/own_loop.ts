// A training loop of one's own: a GPT with hyper-connections on the first chapters of Moby-Dick, 100 steps.
import { data, nn, optim, tidy, valueAndGrad } from "birkhoff";

const dataset = data.sampleText();
const batches = data.randomBatches(dataset.train, { batch: 8, context: 64, seed: 1 });
const residual = { kind: "mhc", streams: 4 } as const;
const model = new nn.GPT({ vocab: dataset.vocab, dim: 64, layers: 2, heads: 4, context: 64, residual });
const optimizer = new optim.AdamW(model.parameters(), { betas: [0.9, 0.95], weightDecay: 0.1 });
const schedule = optim.cosine({ lr: 3e-3, warmup: 10, steps: 100 });

for (let step = 1; step <= 100; step++) {
  using loss = tidy(() => {
    const { tokens, targets } = data.batchTensors(batches.next().value);
    const [value, grads] = valueAndGrad(() => model.loss(tokens, targets), model.parameters());
    optim.clipGradNorm(grads, 1);
    optimizer.step(grads, { lr: schedule(step) });
    return value;
  });
  if (step % 10 === 0) console.log(`step ${step}  loss ${(await loss.item()).toFixed(3)}`);
}
