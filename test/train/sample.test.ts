// Sampling: the choice of one token, and whole sequences.
import { describe, expect, it } from "vitest";
import { memory, NonFiniteError, train } from "../../lib/index.ts";
import { hostRandom } from "../../lib/random.ts";
import { testDevices } from "../support/devices.ts";
import { tinyModel } from "../support/tiny.ts";

describe("sampleToken", () => {
  const logits = Float32Array.of(0, 2, 1, 2, -Infinity);
  it("temperature 0 takes the largest, the first of equals", () => {
    expect(train.sampleToken(logits, { temperature: 0 }, () => 0.99)).toBe(1);
  });
  it("draws with the probabilities of softmax(logits / temperature)", () => {
    const draws = 20_000;
    for (const { temperature, topK } of [{ temperature: 1 }, { temperature: 0.5 }, { temperature: 2, topK: 3 }] as {
      temperature: number;
      topK?: number;
    }[]) {
      const allowed = topK === 3 ? [1, 3, 2] : [0, 1, 2, 3];
      const weights = [...logits].map((v, i) => (allowed.includes(i) ? Math.exp(v / temperature) : 0));
      const total = weights.reduce((a, b) => a + b);
      const counts = Array(5).fill(0) as number[];
      const random = hostRandom(1);
      for (let k = 0; k < draws; k++) counts[train.sampleToken(logits, { temperature, topK }, random)]!++;
      for (const [i, weight] of weights.entries()) {
        const p = weight / total;
        // Five standard deviations of a binomial share.
        expect(Math.abs(counts[i]! / draws - p)).toBeLessThanOrEqual(5 * Math.sqrt((p * (1 - p)) / draws));
      }
    }
  });
  it("refuses logits that are not numbers", () => {
    expect(() => train.sampleToken([0, Number.NaN], {}, () => 0)).toThrow(NonFiniteError);
    expect(() => train.sampleToken([-Infinity], {}, () => 0)).toThrow(NonFiniteError);
    expect(() => train.sampleToken([0, 1], { temperature: -1 }, () => 0)).toThrow(/temperature is -1/);
    expect(() => train.sampleToken([0, 1], { topK: 0 }, () => 0)).toThrow(/topK is 0/);
  });
});

async function collect(tokens: AsyncIterable<number>): Promise<number[]> {
  const out: number[] = [];
  for await (const token of tokens) out.push(token);
  return out;
}

describe.each(testDevices)("generate on %s", (device) => {
  it("repeats with the seed, goes past the context, and frees everything", async () => {
    using model = tinyModel({ device });
    const before = memory();
    const take = (seed: number) => collect(train.generate(model, [1, 2, 3], { maxTokens: 20, seed }));
    const first = await take(1);
    expect(first.length).toBe(20);
    expect(first.every((t) => Number.isInteger(t) && t >= 0 && t < model.options.vocab)).toBe(true);
    expect(await take(1)).toEqual(first);
    expect(await take(2)).not.toEqual(first);
    expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
  });
  it("sees the last `context` tokens only", async () => {
    using model = tinyModel({ device });
    const tail = [1, 2, 3, 4, 5, 6, 7, 8];
    const take = (prompt: number[]) => collect(train.generate(model, prompt, { maxTokens: 4, temperature: 0 }));
    expect(await take([9, 9, 9, ...tail])).toEqual(await take(tail));
  });
  it("refuses a bad prompt at once", () => {
    using model = tinyModel({ device });
    expect(() => train.generate(model, [])).toThrow(/prompt has 0 tokens, want at least 1/);
    expect(() => train.generate(model, [99])).toThrow(/prompt\[0\] is 99/);
    expect(() => train.generate(model, [1], { maxTokens: 0 })).toThrow(/options\.maxTokens is 0/);
  });
});
