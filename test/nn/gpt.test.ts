// The network as a whole: causality, gradients through every parameter, and the start near the plain residual.
import { describe, expect, it } from "vitest";
import { diagnostics, memory, type nn, noGrad, ops, setSeed, Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import { dropout } from "../../lib/nn/module.ts";
import { testDevices } from "../support/devices.ts";
import { tinyModel } from "../support/tiny.ts";
import { assertBitwiseEqual } from "../support/tolerance.ts";

const tokensOf = (values: number[], device: string) =>
  Tensor.from(Int32Array.from(values), [1, values.length], { device });

async function logitsOf(model: nn.GPT, values: number[], device: string): Promise<Float32Array> {
  using tokens = tokensOf(values, device);
  using logits = tidy(() => noGrad(() => model.forward(tokens)));
  return (await logits.data()) as Float32Array;
}

const variants: [string, Partial<nn.GPTOptions>][] = [
  ["plain", { residual: { kind: "plain" } }],
  ["mhc", { residual: { kind: "mhc", streams: 4 } }],
  ["mhc, 2 streams, deepseek-v4", { residual: { kind: "mhc", streams: 2, convention: "deepseek-v4" } }],
  ["layer norm with biases", { norm: "layer", bias: true }],
  ["swiglu, untied head", { activation: "swiglu", tieWeights: false }],
  ["bfloat16", { dtype: "bfloat16" }],
];

describe.each(testDevices)("GPT on %s", (device) => {
  it.each(variants)("%s: a later token never changes an earlier logit", async (_, options) => {
    using model = tinyModel({ ...options, device, layers: 2 });
    const a = await logitsOf(model, [1, 2, 3, 4, 5, 6], device);
    const b = await logitsOf(model, [1, 2, 3, 4, 9, 8], device);
    const vocab = model.options.vocab;
    expect(a.length).toBe(6 * vocab);
    expect(a.slice(0, 4 * vocab)).toEqual(b.slice(0, 4 * vocab));
    expect(a.slice(4 * vocab, 5 * vocab)).not.toEqual(b.slice(4 * vocab, 5 * vocab));
    expect(a.every(Number.isFinite)).toBe(true);
  });

  it.each(variants.slice(0, 5))("%s: gradients predict the change of the loss", async (_, options) => {
    // φ = 0 and res ≈ I would hide gradients, so the connections start elsewhere.
    const residual =
      options.residual?.kind === "plain"
        ? options.residual
        : { ...options.residual, kind: "mhc" as const, init: "uniform" as const, phiStd: 0.05 };
    using model = tinyModel({ ...options, residual, device });
    const params = model.parameters();
    using tokens = tokensOf([1, 2, 3, 4, 5, 6, 7, 8], device);
    using targets = tokensOf([2, 3, 4, 5, 6, 7, 8, 9], device);
    const lossNow = async () => {
      using loss = tidy(() => noGrad(() => model.loss(tokens, targets)));
      return loss.item();
    };
    const [loss, grads] = valueAndGrad(() => model.loss(tokens, targets), params);
    const base = await lossNow();
    expect(await loss.item()).toBe(base);
    for (const [name, p] of model.namedParameters()) {
      const index = params.indexOf(p);
      const grad = (await grads[index]!.data()) as Float32Array;
      const values = (await p.data()) as Float32Array;
      // One step along the gradient's own direction: the derivative there is ‖g‖.
      const norm = Math.hypot(...grad);
      if (norm < 1e-5) continue;
      const h = 2e-2 * Math.max(1, Math.hypot(...values) / 10);
      const at = async (sign: number) => {
        const moved = values.map((v, i) => v + (sign * h * grad[i]!) / norm);
        p.takeStorage(Tensor.from(moved, p.shape, { device }));
        const value = await lossNow();
        p.takeStorage(Tensor.from(values, p.shape, { device }));
        return value;
      };
      const slope = ((await at(1)) - (await at(-1))) / (2 * h);
      // Third-order terms of the difference (about h²) and float32 noise of the loss (2⁻²² of about 3) over 2h.
      expect(Math.abs(slope - norm), `${name}: ${slope} against ${norm}`).toBeLessThan(0.03 * norm + 2e-5 / h);
    }
    for (const t of [loss, ...grads]) t.dispose();
  });

  it("mhc starts near the plain network with the same seed", async () => {
    using plain = tinyModel({ residual: { kind: "plain" }, layers: 3, device });
    using mhc = tinyModel({ residual: { kind: "mhc", streams: 4 }, layers: 3, device });
    const a = await logitsOf(plain, [1, 2, 3, 4, 5, 6, 7, 8], device);
    const b = await logitsOf(mhc, [1, 2, 3, 4, 5, 6, 7, 8], device);
    const difference = Math.hypot(...a.map((v, i) => v - b[i]!)) / Math.hypot(...a);
    // Branch outputs are weighted 0.77 instead of 1, and start small against the embedding.
    expect(difference).toBeLessThan(0.1);
    expect(difference).toBeGreaterThan(0);
  });

  it.each([
    ["float32", { dropout: 0.1 }],
    ["bfloat16", { dtype: "bfloat16" }],
    ["2 streams, deepseek-v4", { residual: { kind: "mhc", streams: 2, convention: "deepseek-v4", phiStd: 0.05 } }],
    ["plain", { residual: { kind: "plain" } }],
  ] as [string, Partial<nn.GPTOptions>][])(
    "%s: all connections in one chain, block by block or one by one: the same bits",
    async (_, options) => {
      using model = tinyModel({ residual: { kind: "mhc", streams: 4, phiStd: 0.05 }, ...options, device, layers: 3 });
      using tokens = tokensOf([1, 2, 3, 4, 5, 6, 7, 8], device);
      using targets = tokensOf([2, 3, 4, 5, 6, 7, 8, 9], device);
      const params = model.parameters();
      const ends = model.connections()[0]!;
      const embed = () => {
        const h = ops.add(model.tokenEmbedding.forward(tokens), model.positionEmbedding.weight);
        return ends.expandStreams(dropout(ops.cast(h, model.options.dtype), model.options.dropout));
      };
      const loss = (x: Tensor) =>
        ops.crossEntropy(model.logits(model.finalNorm.forward(ends.contractStreams(x))), targets);
      const blockByBlock = () => loss(model.blocks.reduce((x, block) => block.forward(x), embed()));
      const oneByOne = () => {
        const steps = model.blocks.flatMap((block) => block.steps());
        return loss(steps.reduce((x, { connection, branch }) => connection.connect(x, branch), embed()));
      };
      const results = [() => model.loss(tokens, targets), blockByBlock, oneByOne].map((run) => {
        setSeed(5);
        const { result, report } = diagnostics.record(model, () => valueAndGrad(run, params));
        const tensors = [result[0], ...result[1], tidy(() => noGrad(run))];
        const values = tensors.map((t) => t.dataSync() as Float32Array);
        for (const t of tensors) t.dispose();
        return { values, report };
      });
      const [chain, ...others] = results;
      const gains = await chain!.report();
      expect(gains?.connections.length).toBe(ends.kind === "plain" ? undefined : 6);
      for (const other of others) {
        for (const [i, values] of chain!.values.entries()) assertBitwiseEqual(values, other.values[i]!, `result ${i}`);
        expect(await other.report()).toEqual(gains);
      }
    },
  );

  it("frees everything but what it returns", () => {
    using model = tinyModel({ device, dropout: 0.1 });
    using tokens = tokensOf([1, 2, 3], device);
    const before = memory();
    for (let k = 0; k < 3; k++) {
      const [loss, grads] = valueAndGrad(() => model.loss(tokens, tokens), model.parameters());
      for (const t of [loss, ...grads]) t.dispose();
      tidy(() => {
        noGrad(() => model.loss(tokens, tokens));
      });
    }
    expect(memory().tensors).toBe(before.tensors);
    expect(memory().bytes).toBe(before.bytes);
  });
});

describe("GPT", () => {
  it("counts connections: attention and MLP are two per block", () => {
    using model = tinyModel({ layers: 3 });
    expect(model.connections().length).toBe(6);
    expect(model.connections()[3]).toBe(model.blocks[1]!.mlpConnection);
  });

  it("rejects bad sizes and tokens, naming them", () => {
    const make = (options: object) => () => tinyModel(options as Partial<nn.GPTOptions>);
    expect(make({ dim: 15 })).toThrow(/GPT: options\.heads is 2, want a divisor of dim 15/);
    expect(make({ layers: 0 })).toThrow(/GPT: options\.layers is 0/);
    expect(make({ vocab: Number.NaN })).toThrow(/GPT: options\.vocab is NaN/);
    expect(make({ norm: "batch" })).toThrow(/options\.norm is "batch", want "rms" or "layer"/);
    expect(make({ dropout: 1 })).toThrow(/options\.dropout is 1/);
    using model = tinyModel();
    expect(() => tidy(() => model.forward(Tensor.zeros([1, 9], { dtype: "int32" })))).toThrow(
      /tokens has shape \[1, 9\], want \[B, T\] with T from 1 to context 8/,
    );
    expect(() => tidy(() => model.forward(Tensor.zeros([1, 4])))).toThrow(/tokens is float32, want int32/);
    expect(() =>
      tidy(() => model.loss(Tensor.zeros([1, 4], { dtype: "int32" }), Tensor.zeros([1, 3], { dtype: "int32" }))),
    ).toThrow(/targets has shape \[1, 3\], want \[1, 4\]/);
  });
});
