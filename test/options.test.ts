// What every function with options refuses: names it does not know, values in place of an object, null, flags that are no booleans.
import { afterAll, describe, expect, it } from "vitest";
import * as birkhoff from "../lib/index.ts";
import { data, defineOp, diagnostics, memory, nn, ops, optim, Tensor, train } from "../lib/index.ts";
import { tinyDataset, tinyModel } from "./support/tiny.ts";

const live = memory().tensors;
const x = Tensor.ones([2, 2]);
const streams = Tensor.ones([1, 2, 4]);
const parameters = { phi: Tensor.ones([8, 8]), alpha: Tensor.ones([3]), bias: Tensor.ones([8]) };
const weights = Tensor.ones([2]);
const model = tinyModel();
const dataset = tinyDataset();
const tokens = dataset.train;
const batch = { rows: 1, context: 1, tokens: Int32Array.of(1), targets: Int32Array.of(2) };
const optimizer = new optim.AdamW([x]);
const branch = (u: Tensor) => ops.scale(u, 2);
const op = { name: "twice", forward: () => x, backward: () => [] };

/** What stands in messages before the name of an option; the call; valid options to start from; names, flags among them with "?". */
type Row = [at: string, call: (options: never) => unknown, base: object | undefined, names: string];
const mhc = "convention iters sinkhornEps normEps projection";
const residual = `kind streams init phiStd ${mhc}`;
const gpt = { vocab: 8, dim: 8, layers: 1, heads: 2, context: 4 };
const gptNames = "vocab dim layers heads context residual norm activation bias? dropout tieWeights? dtype device";
const schedule = "lr warmup";
const table: Row[] = [
  ["attention: options", (o) => ops.attention(x, x, x, o), undefined, "causal? scale"],
  ["connect: options", (o) => ops.connect(streams, parameters, branch, o), undefined, `${mhc} onCoefficients`],
  [
    "connectChain: connections[0]",
    (o) => ops.connectChain(streams, [o]),
    { parameters, branch },
    "parameters branch options",
  ],
  [
    "connectChain: connections[0]: options",
    (options) => ops.connectChain(streams, [{ parameters, branch, options }]),
    undefined,
    `${mhc} onCoefficients`,
  ],
  ["contract: options", (o) => ops.contract(streams, "sum", o), undefined, "convention normEps projection"],
  ["dropout: options", (o) => ops.dropout(x, 0.5, o), undefined, "seed"],
  ["layerNorm: options", (o) => ops.layerNorm(x, weights, weights, o), undefined, "eps"],
  ["rmsNorm: options", (o) => ops.rmsNorm(x, weights, o), undefined, "eps"],
  ["matmul: options", (o) => ops.matmul(x, x, o), undefined, "transposeA? transposeB?"],
  ["mean: options", (o) => ops.mean(x, o), undefined, "axis"],
  ["sum: options", (o) => ops.sum(x, o), undefined, "axis"],
  ["mhcPre: options", (o) => ops.mhcPre(streams, parameters, o), undefined, mhc],
  ["sinkhorn: options", (o) => ops.sinkhorn(x, o), undefined, "iters eps convention"],
  [
    "CausalSelfAttention: options",
    (o) => new nn.CausalSelfAttention(o),
    { dim: 8, heads: 2 },
    "dim heads bias? dropout projStd device",
  ],
  ["Embedding: options", (o) => new nn.Embedding(2, 2, o), undefined, "std device"],
  ["GPT: options", (o) => new nn.GPT(o), gpt, gptNames],
  ["GPT: options.residual", (o) => new nn.GPT({ ...gpt, residual: o }), { kind: "mhc" }, residual],
  ["Block: options", (o) => new nn.Block(o, 0), gpt, gptNames],
  [
    "HyperConnection: options",
    (o) => new nn.HyperConnection(o),
    { kind: "mhc", dim: 2 },
    `${residual} dim layer device`,
  ],
  ["Linear: options", (o) => new nn.Linear(2, 2, o), undefined, "bias? std device"],
  ["MLP: options", (o) => new nn.MLP(o), { dim: 8 }, "dim hidden activation bias? dropout projStd device"],
  ["Parameter: options", (o) => new nn.Parameter(x, o), undefined, "decay?"],
  ["LayerNorm: options", (o) => new nn.LayerNorm(2, o), undefined, "eps bias? device"],
  ["RMSNorm: options", (o) => new nn.RMSNorm(2, o), undefined, "eps device"],
  ["AdamW: options", (o) => new optim.AdamW([x], o), undefined, "lr betas eps weightDecay"],
  ["AdamW: params[0]", (o) => new optim.AdamW([o]), { params: [x] }, "params weightDecay lr"],
  ["AdamW.step: options", (o) => optimizer.step([weights], o), undefined, "lr"],
  ["constant: options", (o) => optim.constant(o), { lr: 1 }, schedule],
  ["cosine: options", (o) => optim.cosine(o), { lr: 1, steps: 2 }, `${schedule} steps minLr`],
  ["stepDecay: options", (o) => optim.stepDecay(o), { lr: 1, milestones: [1] }, `${schedule} milestones factor`],
  ["evaluate: options", (o) => train.evaluate(model, tokens, o), { context: 4 }, "batch context batches signal"],
  [
    "fit: options",
    (o) => train.fit(model, dataset, o),
    { steps: 1, context: 4 },
    `steps batch context lr minLr warmup schedule clip betas weightDecay seed log evalEvery evalBatches signal diagnostics? graph?`,
  ],
  ["generate: options", (o) => train.generate(model, [1], o), undefined, "maxTokens seed signal temperature topK"],
  ["sampleToken: options", (o) => train.sampleToken([1], o, () => 0), {}, "temperature topK"],
  ["randomBatches: options", (o) => data.randomBatches(tokens, o), { batch: 1, context: 1 }, "batch context seed"],
  [
    "sequentialBatches: options",
    (o) => data.sequentialBatches(tokens, o),
    { batch: 1, context: 1 },
    "batch context batches",
  ],
  ["batchTensors: options", (o) => data.batchTensors(batch, o), undefined, "device"],
  ["text: options", (o) => data.text("abc", o), undefined, "heldOut"],
  ["textFile: options", (o) => data.textFile("LICENSE", o), undefined, "heldOut"],
  ["tokenFile: options", (o) => data.tokenFile("test/options.test.ts", o), undefined, "heldOut vocab"],
  ["mobyDick: options", (o) => data.mobyDick(o), undefined, "heldOut"],
  ["sampleText: options", (o) => data.sampleText(o), undefined, "heldOut"],
  ["Tensor.from: options", (o) => Tensor.from([1], [1], o), undefined, "dtype device"],
  ["Tensor.full: options", (o) => Tensor.full([1], 1, o), undefined, "dtype device"],
  ["Tensor.ones: options", (o) => Tensor.ones([1], o), undefined, "dtype device"],
  ["Tensor.zeros: options", (o) => Tensor.zeros([1], o), undefined, "dtype device"],
  ["Tensor.randn: options", (o) => Tensor.randn([1], o), undefined, "dtype device seed mean std"],
  ["defineOp: op", (o) => defineOp(o), op, "name forward backward"],
];
const namesOf = (names: string) => names.split(" ").map((name) => name.replace("?", ""));

afterAll(() => {
  for (const tensor of [x, streams, weights, ...Object.values(parameters)]) tensor.dispose();
  optimizer.dispose();
  model.dispose();
  expect(memory().tensors, "a refused call left a tensor behind").toBe(live);
});

async function refusal(call: (options: never) => unknown, options: unknown): Promise<string> {
  let error: unknown;
  try {
    await call(options as never);
  } catch (thrown) {
    error = thrown;
  }
  expect(error, "nothing was thrown").toBeInstanceOf(TypeError);
  expect(error).toHaveProperty("code", "ERR_TYPE");
  expect((error as Error).message).not.toContain("\n");
  return (error as Error).message;
}

describe.each(table)("%s", (at, call, base, names) => {
  const known = namesOf(names);
  it.each(known)("says that a misspelt %s is none, and lists what there is", async (name) => {
    const snake = name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    for (const typo of [`${name}x`, name.slice(0, -1), ...(snake === name ? [] : [snake])]) {
      const message = await refusal(call, { ...base, [typo]: 1 });
      const [before, after] = message.split(", did you mean ");
      expect(before).toBe(`${at}.${typo} is not an option`);
      expect(after?.split("? Options: ")[0]?.split(" or "), message).toContain(name);
      const listed = message.split("Options: ")[1]!.split(", ");
      expect(listed.sort()).toEqual([...known].sort());
    }
  });
  it("says that a name like no other is none", async () => {
    expect(await refusal(call, { ...base, zzzzzzzzzz: 1 })).toMatch(`${at}.zzzzzzzzzz is not an option. Options: `);
    expect(await refusal(call, { ...base, toString: 1 })).toMatch(`${at}.toString is not an option`);
    expect(await refusal(call, { ...base, "a\nb": 1 })).toMatch(`${at}["a\\nb"] is not an option`);
  });
  it("refuses what is no object of options", async () => {
    // Tensors are what AdamW is usually given.
    const tensor = at === "AdamW: params[0]" ? 1 : x;
    const others = { number: 0, float: 1e-3, text: "int32", flag: true, list: [1], null: null, symbol: Symbol("s") };
    const objects = { map: new Map(), date: new Date(), bytes: new Uint8Array(2), signal: AbortSignal.abort() };
    for (const [what, value] of Object.entries({ ...others, ...objects, function: () => {}, tensor })) {
      const message = await refusal(call, value);
      expect(message.replace("].options is null", "]: options is null"), what).toMatch(`${at} is `);
      expect(message, what).toMatch(
        /, want (an object with [a-z]|a tensor or \{ params|a value, or the option left out)/,
      );
    }
  });
  it("takes null for no option", async () => {
    for (const name of known)
      expect(await refusal(call, { ...base, [name]: null })).toMatch(new RegExp(`${name}( is null|: name is null)`));
  });
  const flags = names.split(" ").filter((name) => name.endsWith("?"));
  if (flags.length > 0)
    it.each(namesOf(flags.join(" ")))("wants true or false for %s", async (flag) => {
      for (const value of ["no", "yes", 0, 1, [], {}])
        expect(await refusal(call, { ...base, [flag]: value })).toMatch(
          new RegExp(`${flag} is .*, want true or false$`),
        );
    });
});

describe("options", () => {
  it("may be left out, undefined, of any object, with names that are undefined, inherited or symbols", () => {
    const take = (options: object | undefined) => ops.sum(x, options).dispose();
    const inherits = Object.assign(Object.create({ axes: 1, axis: 0 }), { axis: 1 });
    class Own {
      axis = 1;
      get axes() {
        return 1;
      }
    }
    const bare = Object.assign(Object.create(null), { axis: 0 });
    for (const options of [undefined, {}, { axis: undefined }, { axes: undefined }, inherits, bare, new Own()])
      expect(() => take(options)).not.toThrow();
    expect(() => take({ [Symbol("axes")]: 1 })).not.toThrow();
  });
  it("that must be there are missed", async () => {
    for (const [at, call, base] of table)
      if (base && !["GPT: options.residual", "AdamW: params[0]"].includes(at))
        expect(await refusal(call, undefined)).toMatch(`${at} is undefined, want an object with`);
  });
  it.each<[string, () => unknown, string]>([
    ["stream", () => new nn.GPT({ ...gpt, residual: { kind: "mhc", stream: 8 } as never }), "did you mean streams?"],
    ["weight_decay", () => new optim.AdamW([x], { weight_decay: 0.1 } as never), "did you mean weightDecay?"],
    ["learningRate", () => new optim.AdamW([x], { learningRate: 1 } as never), "did you mean lr?"],
    ["learningRate in fit", () => train.fit(model, dataset, { learningRate: 1 } as never), "did you mean lr?"],
    ["max_tokens", () => train.generate(model, [1], { max_tokens: 9 } as never), "did you mean maxTokens?"],
    ["causual", () => ops.attention(x, x, x, { causual: true } as never), "did you mean causal?"],
    ["iterations", () => ops.sinkhorn(x, { iterations: 3 } as never), "did you mean iters?"],
    ["bias", () => new nn.Linear(2, 2, { bias: "no" as never }), 'options.bias is "no", want true or false'],
    ["sum(x, 0)", () => ops.sum(x, 0 as never), "sum: options is 0, want an object with axis"],
    ["zeros", () => Tensor.zeros([1], "int32" as never), 'Tensor.zeros: options is "int32", want an object with dtype'],
    ["step", () => optimizer.step([x], 1e-3 as never), "AdamW.step: options is 0.001, want an object with lr"],
    ["signal", () => train.generate(model, [1], { signal: new AbortController() as never }), "want an AbortSignal"],
    ["device", () => new nn.Linear(2, 2, { device: 0 as never }), "options.device is 0, want a string"],
    [
      "onCoefficients",
      () => ops.connect(streams, parameters, branch, { onCoefficients: 1 as never }),
      "want a function",
    ],
  ])("%s", async (_, call, text) => expect(await refusal(call, undefined)).toContain(text));
  it("of a residual are those of its kind, and are right before anything is made", async () => {
    const make = (options: object) => () => new nn.GPT({ ...gpt, residual: options as never });
    expect(await refusal(make({ kind: "plain", iters: 3 }), 0)).toMatch(
      /GPT: options\.residual\.iters is not an option of kind "plain"\. Options: kind, streams$/,
    );
    expect(await refusal(make({ streams: 4 }), 0)).toMatch(
      /options\.residual\.kind is undefined, want "plain" or "mhc"/,
    );
    expect(await refusal(make({ kind: "mhc", projection: "fp8" }), 0)).toMatch(
      /options\.residual\.projection is "fp8"/,
    );
    expect(make({ kind: "mhc", iters: 65 })).toThrow(
      /GPT: options\.residual\.iters is 65, want an integer from 1 to 64/,
    );
  });
  it("of an op that is defined are its functions", async () => {
    for (const name of Object.keys(op))
      expect(await refusal(defineOp as never, { ...op, [name]: undefined })).toMatch(`op.${name} is undefined`);
    expect(await refusal(defineOp({ ...op, backward: () => [x] }) as never, x)).toMatch(
      /^twice: args is a float32 tensor/,
    );
  });
});

describe("the table above", () => {
  /** The parameters named so in the source of a function; compilers and vitest keep them. */
  const takesOptions = (source: string) => /^[^(]*\([^)]*\b(options|op)\b/.test(source);
  const found: string[] = [];
  const visit = (name: string, value: unknown) => {
    if (typeof value !== "function") return;
    const source = String(value);
    if (!source.startsWith("class")) {
      if (takesOptions(source)) found.push(name);
      return;
    }
    const made = /\n\s*constructor(\([^{]*\{)/.exec(source)?.[1];
    if (made && takesOptions(made)) found.push(name);
    for (const of of [value, value.prototype])
      for (const [key, { value: method }] of Object.entries(Object.getOwnPropertyDescriptors(of)))
        if (typeof method === "function" && key !== "constructor" && takesOptions(String(method)))
          found.push(`${name}.${key}`);
  };
  for (const [name, value] of Object.entries(birkhoff)) visit(name, value);
  for (const room of [data, diagnostics, nn, ops, optim, train])
    for (const [name, value] of Object.entries(room)) visit(name, value);
  it("has every exported function that takes options", () => {
    expect(found.length).toBeGreaterThan(40);
    const listed = new Set(table.map(([at]) => at.split(":")[0]!));
    expect(found.filter((name) => !listed.has(name))).toEqual([]);
    expect([...listed].filter((name) => !found.includes(name))).toEqual(["connectChain"]);
  });
});
