// The training loop: repeatable, without leaks, and safe against bad numbers and interruptions.
import { describe, expect, it } from "vitest";
import {
  data,
  defineOp,
  memory,
  NonFiniteError,
  type nn,
  ops,
  setSeed,
  setThreads,
  Tensor,
  train,
} from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { testDevices } from "../support/devices.ts";
import { tinyDataset, tinyModel } from "../support/tiny.ts";

const usual = { batch: 3, context: 8, lr: 1e-2, warmup: 2, log: 5 };

/** Everything of the metrics that must not depend on time. */
async function run(model: train.Trainable, options: Partial<train.FitOptions> & { steps: number }) {
  const out: Omit<train.Metrics, "seconds" | "tokensPerSecond">[] = [];
  for await (const { seconds, tokensPerSecond, ...m } of train.fit(model, tinyDataset(), { ...usual, ...options })) {
    expect(seconds).toBeGreaterThan(0);
    expect(tokensPerSecond).toBeGreaterThan(0);
    out.push(m);
  }
  return out;
}

const weights = (model: nn.GPT) => Promise.all(model.parameters().map((p) => p.data()));

describe.each(testDevices)("fit on %s", (device) => {
  it.each(["plain", "mhc"] as const)("%s learns", async (kind) => {
    using model = tinyModel({ device, residual: { kind } });
    const metrics = await run(model, { steps: 60, evalEvery: 30, evalBatches: 4, diagnostics: kind === "mhc" });
    expect(metrics.map((m) => m.step)).toEqual([1, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60]);
    expect(metrics.at(-1)!.loss).toBeLessThan(metrics[0]!.loss - 0.7);
    expect(metrics.at(-1)!.heldOutLoss).toBeLessThan(metrics[0]!.loss - 0.7);
    expect(metrics.filter((m) => m.heldOutLoss !== undefined).map((m) => m.step)).toEqual([30, 60]);
    for (const m of metrics) {
      expect(m.gradNorm).toBeGreaterThan(0);
      if (kind === "plain") expect(m.diagnostics).toBeUndefined();
      else {
        expect(m.diagnostics!.connections.length).toBe(2);
        // Rows are normalised last, so the forward gain is 1 up to rounding.
        expect(Math.abs(m.diagnostics!.composite.forward - 1)).toBeLessThan(1e-5);
        expect(m.diagnostics!.connections[0]!.rowError).toBeLessThan(1e-5);
      }
    }
  });

  it("equal seeds give equal metrics and weights at 1 and 2 threads", async () => {
    const results = [];
    for (const threads of [1, 2, 1]) {
      setThreads(threads);
      using model = tinyModel({ device, dropout: 0.1 });
      const metrics = await run(model, { steps: 12, evalEvery: 6, evalBatches: 2, diagnostics: true, seed: 3 });
      results.push({ metrics, weights: await weights(model) });
    }
    setThreads(2);
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
    using other = tinyModel({ device, dropout: 0.1 });
    expect(await run(other, { steps: 12, evalEvery: 6, evalBatches: 2, diagnostics: true, seed: 4 })).not.toEqual(
      results[0]!.metrics,
    );
  });

  it("diagnostics and logging change nothing about the training", async () => {
    using a = tinyModel({ device });
    using b = tinyModel({ device });
    await run(a, { steps: 10 });
    await run(b, { steps: 10, log: 1, diagnostics: true, evalEvery: 2, evalBatches: 2 });
    expect(await weights(b)).toEqual(await weights(a));
  });

  it.each(["plain", "mhc"] as const)("%s: recorded, the same metrics and weights as without", async (kind) => {
    const results = [];
    for (const graph of [false, true]) {
      setSeed(5);
      using model = tinyModel({ device, residual: { kind }, dropout: 0.1 });
      const options = { steps: 9, log: 4, evalEvery: 6, evalBatches: 2, diagnostics: kind === "mhc", graph };
      results.push({ metrics: await run(model, options), weights: await weights(model) });
    }
    expect(results[1]).toEqual(results[0]);
  });

  it("recorded: memory stays constant and all is freed, also after break", async () => {
    using model = tinyModel({ device });
    for (const stop of [8, 3]) {
      const before = memory();
      const seen: number[] = [];
      const options = { ...usual, steps: 8, log: 1, graph: true };
      for await (const { step } of train.fit(model, tinyDataset(), options)) {
        seen.push(memory().reservedBytes);
        if (step === stop) break;
      }
      expect(new Set(seen.slice(2)).size).toBeLessThanOrEqual(1);
      expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
    }
  });

  it("recorded: a model that reads a tensor, or fails, is refused before a second step", async () => {
    for (const [message, spoil] of [
      [/cannot be read while a graph is recorded/, (loss: Tensor) => loss.dataSync()],
      [
        /mine/,
        () => {
          throw new Error("mine");
        },
      ],
    ] as const) {
      using model = tinyModel({ device });
      let calls = 0;
      const spoiled = {
        parameters: () => model.parameters(),
        loss: (tokens: Tensor, targets: Tensor) => {
          const loss = model.loss(tokens, targets);
          if (++calls > 1) spoil(loss);
          return loss;
        },
      };
      const before = memory();
      await expect(run(spoiled, { steps: 5, graph: true })).rejects.toThrow(message);
      expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
    }
  });

  it("recorded: a loss that is not finite stops the run with the weights of the step before", async () => {
    using model = tinyModel({ device });
    using factor = Tensor.ones([], { device });
    const spoiled = {
      parameters: () => model.parameters(),
      loss: (tokens: Tensor, targets: Tensor) => ops.mul(model.loss(tokens, targets), factor),
    };
    const fitted = train.fit(spoiled, tinyDataset(), { ...usual, steps: 9, log: 1, graph: true });
    await fitted.next();
    await fitted.next();
    const third = await fitted.next();
    expect(third.value).toMatchObject({ step: 3 });
    const kept = await weights(model);
    native.tensorWrite(factor.handle, Float32Array.of(Number.NaN));
    // Step 4 was queued before the write.
    await fitted.next();
    const of4 = await weights(model);
    expect(of4).not.toEqual(kept);
    await expect(fitted.next()).rejects.toBeInstanceOf(NonFiniteError);
    expect(await weights(model)).toEqual(of4);
  });

  it("live tensors and bytes stay constant, and all is freed at the end", async () => {
    using model = tinyModel({ device });
    const before = memory();
    const seen: { tensors: number; bytes: number }[] = [];
    const options = { ...usual, steps: 40, log: 1, evalEvery: 10, evalBatches: 2, diagnostics: true };
    for await (const _ of train.fit(model, tinyDataset(), options)) {
      const { tensors, bytes } = memory();
      seen.push({ tensors, bytes });
    }
    // The last step has no successor in flight.
    for (const point of seen.slice(1, -1)) expect(point).toEqual(seen[0]);
    expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
  });

  it("breaking out of the loop frees everything, and the weights are those of the step yielded", async () => {
    using model = tinyModel({ device });
    using whole = tinyModel({ device });
    const before = memory();
    const options = { ...usual, steps: 5, log: 1, schedule: "constant" as const, warmup: 0 };
    for await (const m of train.fit(model, tinyDataset(), { ...options, steps: 50 })) if (m.step === 5) break;
    expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
    for await (const _ of train.fit(whole, tinyDataset(), options));
    expect(await weights(model)).toEqual(await weights(whole));
  });

  it("stops on an abort signal after the step that runs, with its metrics", async () => {
    using model = tinyModel({ device });
    const before = memory();
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 60);
    const steps: number[] = [];
    for await (const m of train.fit(model, tinyDataset(), { ...usual, steps: 1e6, log: 1e6, signal: stop.signal }))
      steps.push(m.step);
    expect(steps[0]).toBe(1);
    expect(steps.length).toBeLessThanOrEqual(2);
    expect(steps.at(-1)).toBeLessThan(1e5);
    expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
  });

  it.each([
    ["loss", Number.NaN],
    ["loss", Infinity],
  ])("a %s of %s stops the run, names the step, and leaves the weights alone", async (what, bad) => {
    using model = tinyModel({ device });
    using twin = tinyModel({ device });
    const before = memory();
    let calls = 0;
    const broken: train.Trainable = {
      parameters: () => model.parameters(),
      loss: (tokens, targets) => {
        const loss = model.loss(tokens, targets);
        return ++calls === 4 ? ops.scale(ops.add(loss, Tensor.full([], bad, { device })), 1) : loss;
      },
    };
    const error = await run(broken, { steps: 10, schedule: "constant", warmup: 0 }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(NonFiniteError);
    expect((error as Error).message).toMatch(new RegExp(`fit: the ${what} of step 4 is ${bad}, want a finite number`));
    expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
    await run(twin, { steps: 3, schedule: "constant", warmup: 0 });
    expect(await weights(model)).toEqual(await weights(twin));
  });

  it("a gradient that is NaN while the loss is finite never reaches the weights", async () => {
    using model = tinyModel({ device });
    const before = await weights(model);
    const broken: train.Trainable = {
      parameters: () => model.parameters(),
      // 0 · ∞ in backward only: the branch adds nothing to the loss.
      loss: (tokens, targets) => nanGradient([model.loss(tokens, targets)]),
    };
    await expect(run(broken, { steps: 10 })).rejects.toThrow(/fit: the gradient norm of step 1 is NaN/);
    expect(await weights(model)).toEqual(before);
  });

  it("an error inside the model frees everything", async () => {
    using model = tinyModel({ device });
    const before = memory();
    let calls = 0;
    const broken: train.Trainable = {
      parameters: () => model.parameters(),
      connections: () => model.connections(),
      loss: (tokens, targets) => {
        const loss = model.loss(tokens, targets);
        if (++calls === 3) throw new Error("mine");
        return loss;
      },
    };
    await expect(run(broken, { steps: 10, log: 1, diagnostics: true })).rejects.toThrow("mine");
    expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
  });
});

const nanGradient = defineOp<[Tensor]>({
  name: "nanGradient",
  forward: (_, [x]) => ops.scale(x, 1),
  backward: (_, [g]) => [Tensor.full(g!.shape, Number.NaN, { device: g!.device })],
});

describe("fit", () => {
  it("checks its options before the first step", () => {
    using model = tinyModel();
    const start = (options: object) => () => train.fit(model, tinyDataset(), { ...usual, steps: 1, ...options });
    expect(start({ steps: 0 })).toThrow(/fit: options\.steps is 0, want an integer at least 1/);
    expect(start({ steps: Number.NaN })).toThrow(/options\.steps is NaN/);
    expect(start({ batch: 1.5 })).toThrow(/options\.batch is 1\.5/);
    expect(start({ lr: -1 })).toThrow(/options\.lr is -1/);
    expect(start({ minLr: 1 })).toThrow(/options\.minLr is 1/);
    expect(start({ clip: 0 })).toThrow(/options\.clip is 0/);
    expect(start({ log: 0 })).toThrow(/options\.log is 0/);
    expect(start({ schedule: "linear" })).toThrow(/options\.schedule is "linear"/);
    expect(start({ context: 5000 })).toThrow(/dataset\.train has 1620 tokens, want at least 5001: context 5000/);
    expect(() => train.fit(model, data.text("hello, hello"), { steps: 1, context: 8, evalEvery: 1 })).toThrow(
      /dataset\.heldOut has 2 tokens, want at least 9/,
    );
    const { loss, parameters } = model;
    expect(() => train.fit({ loss, parameters }, tinyDataset(), { ...usual, steps: 1, diagnostics: true })).toThrow(
      /needs a model with connections/,
    );
  });

  it("leaves the event loop free", async () => {
    using model = tinyModel();
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    for await (const _ of train.fit(model, tinyDataset(), { ...usual, steps: 50, log: 50 }));
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(5);
  });
});

describe("evaluate", () => {
  it("is the mean over all windows, whatever the batch size", async () => {
    using model = tinyModel();
    const { heldOut } = tinyDataset();
    const one = await train.evaluate(model, heldOut, { batch: 1, context: 8 });
    const many = await train.evaluate(model, heldOut, { batch: 5, context: 8 });
    // Each loss is a float32 mean of a few terms.
    expect(Math.abs(one - many)).toBeLessThan(one * 64 * 2 ** -24);
    expect(one).toBeGreaterThan(2);
    await expect(train.evaluate(model, heldOut.subarray(0, 4), { context: 8 })).rejects.toThrow(
      /tokens has 4 tokens, want at least 9/,
    );
  });
});
