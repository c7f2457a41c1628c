// Names, tying, and checkpoints of modules: what other programs rely on.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeSafetensors } from "../../lib/files/safetensors.ts";
import { CheckpointError, memory, nn, ops, Tensor, tidy, type train, valueAndGrad } from "../../lib/index.ts";
import { tinyModel } from "../support/tiny.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "birkhoff-module-"));
});
afterAll(() => rm(folder, { recursive: true }));

describe("Module", () => {
  it("names parameters like torch", () => {
    using model = tinyModel({ layers: 2, bias: true, norm: "layer" });
    const names = [...model.namedParameters().keys()];
    for (const name of [
      "tokenEmbedding.weight",
      "positionEmbedding.weight",
      "blocks.0.attn.qkv.weight",
      "blocks.0.attn.qkv.bias",
      "blocks.0.attn.proj.weight",
      "blocks.0.attnConnection.phi",
      "blocks.0.attnConnection.alpha",
      "blocks.0.attnConnection.bias",
      "blocks.1.mlpConnection.phi",
      "blocks.1.mlp.fc.weight",
      "blocks.1.mlpNorm.bias",
      "finalNorm.weight",
    ])
      expect(names).toContain(name);
    expect(new Set(names).size).toBe(names.length);
    expect(names).not.toContain("head.weight");
  });

  it("lists a tied weight once, and an untied head", () => {
    using tied = tinyModel();
    using untied = tinyModel({ tieWeights: false });
    expect(untied.parameters().length).toBe(tied.parameters().length + 1);
    const twice = new (class extends nn.Module {
      readonly a = new nn.Linear(2, 3);
      readonly b = this.a;
    })();
    expect([...twice.namedParameters().keys()]).toEqual(["a.weight"]);
    twice.dispose();
  });

  it("decays matrices only", () => {
    using model = tinyModel({ bias: true, norm: "layer" });
    for (const [name, p] of model.namedParameters())
      expect(p.decay, name).toBe(/\.(phi|weight)$/.test(name) && !/Norm/.test(name));
  });

  it("keeps parameters through tidy and valueAndGrad", async () => {
    const linear = tidy(() => {
      const made = new nn.Linear(2, 2);
      return { made };
    }).made;
    const x = Tensor.from([1, 2], [1, 2]);
    const [loss, grads] = valueAndGrad(() => {
      const y = linear.forward(x);
      return tidyLoss(y);
    }, linear.parameters());
    expect(linear.weight.disposed).toBe(false);
    for (const t of [loss, ...grads, x]) t.dispose();
    linear.dispose();
    expect(linear.weight.disposed).toBe(true);
  });

  it("saves and loads every bit", async () => {
    using a = tinyModel({ seed: 1 });
    using b = tinyModel({ seed: 2 });
    const file = join(folder, "model.safetensors");
    await a.save(file, { note: "hello" });
    const metadata = await b.load(file);
    expect(metadata.note).toBe("hello");
    const other = b.namedParameters();
    for (const [name, p] of a.namedParameters()) expect(await other.get(name)!.data(), name).toEqual(await p.data());
  });

  it("changes nothing when a file does not fit", async () => {
    using model = tinyModel();
    const before = await Promise.all(model.parameters().map((p) => p.data()));
    const live = memory();
    const entries = new Map<string, train.TensorEntry>(
      await Promise.all(
        [...model.stateDict()].map(async ([name, t]) => {
          const data = (await t.data()).map((v) => v + 1) as Float32Array;
          const entry: train.TensorEntry = { dtype: "float32", shape: [...t.shape], data };
          return [name, entry] as const;
        }),
      ),
    );
    const damaged: [RegExp, (m: typeof entries) => void][] = [
      [/lacks "finalNorm\.weight"/, (m) => m.delete("finalNorm.weight")],
      [/has "extra"/, (m) => m.set("extra", { dtype: "float32", shape: [1], data: new Float32Array(1) })],
      [
        /"finalNorm\.weight" is float32 \[4, 4\], want float32 \[16\]/,
        (m) => m.set("finalNorm.weight", { dtype: "float32", shape: [4, 4], data: new Float32Array(16) }),
      ],
      [
        /"finalNorm\.weight" is int32/,
        (m) => m.set("finalNorm.weight", { dtype: "int32", shape: [16], data: new Int32Array(16) }),
      ],
    ];
    for (const [message, damage] of damaged) {
      const copy = new Map(entries);
      damage(copy);
      const file = join(folder, "damaged.safetensors");
      await writeFile(file, Buffer.concat(encodeSafetensors(copy, {})));
      const error = await model.load(file).catch((e: unknown) => e);
      expect(error).toBeInstanceOf(CheckpointError);
      expect((error as Error).message).toMatch(message);
      expect((error as Error).message).toContain(file);
    }
    await expect(model.load(join(folder, "missing"))).rejects.toThrow(/cannot read .*missing/);
    const after = await Promise.all(model.parameters().map((p) => p.data()));
    expect(after).toEqual(before);
    expect(memory().tensors).toBe(live.tensors);
    expect(memory().bytes).toBe(live.bytes);
  });
});

function tidyLoss(y: Tensor): Tensor {
  const targets = Tensor.from(Int32Array.of(1), [1], { device: y.device });
  return ops.crossEntropy(y, targets);
}
