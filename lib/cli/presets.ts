/** Named settings of `birkhoff train`; flags override them. */
import { hasMobyDick } from "../data/moby_dick.ts";

/** Defaults of every run, by flag. */
export const defaults: Readonly<Record<string, string | number>> = {
  residual: "mhc",
  norm: "rms",
  dim: 128,
  layers: 4,
  heads: 4,
  dtype: "float32",
  context: 64,
  batch: 12,
  steps: 1000,
  lr: 1e-3,
  "min-lr": 1e-4,
  warmup: 50,
  "weight-decay": 0.1,
  beta2: 0.99,
  clip: 1,
  seed: 0,
  device: "auto",
  "log-every": 10,
  sample: 0,
};

export const presets: Readonly<Record<string, Readonly<Record<string, string | number>>>> = {
  // A run of under 2.5 minutes on two slow cores, on the novel where its npm package is installed (as in a checkout).
  demo: {
    data: hasMobyDick() ? "moby-dick" : "sample",
    residual: "mhc",
    streams: 4,
    dim: 128,
    layers: 4,
    heads: 4,
    context: 64,
    batch: 12,
    steps: 600,
    lr: 2e-3,
    "min-lr": 2e-4,
    warmup: 50,
    "eval-every": 200,
    "eval-batches": 40,
    sample: 300,
  },
  // nanoGPT's README, "train_shakespeare_char on a MacBook" with max_iters 2000: held-out loss 1.88 there.
  "nanogpt-cpu": {
    residual: "plain",
    norm: "layer",
    dim: 128,
    layers: 4,
    heads: 4,
    context: 64,
    batch: 12,
    steps: 2000,
    lr: 1e-3,
    "min-lr": 1e-4,
    warmup: 100,
    "weight-decay": 0.1,
    beta2: 0.99,
    clip: 1,
    "eval-every": 500,
  },
};
