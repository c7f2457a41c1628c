// Data sets: vocabularies, splits, windows, and the errors of bad files.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DataError, data } from "../../lib/index.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "birkhoff-data-"));
});
afterAll(() => rm(folder, { recursive: true }));

describe("text", () => {
  it("sorts the vocabulary and round-trips, code points included", () => {
    const set = data.text("héllo 😀 wörld");
    expect([...set.tokenizer.vocabulary]).toEqual([...set.tokenizer.vocabulary].sort());
    expect(set.vocab).toBe(set.tokenizer.vocabulary.length);
    expect(set.tokenizer.decode(set.tokenizer.encode("low 😀"))).toBe("low 😀");
  });

  it("holds out the last tenth", () => {
    const set = data.text("abcdefghij".repeat(10));
    expect([set.train.length, set.heldOut.length]).toEqual([90, 10]);
    expect(set.tokenizer.decode(set.heldOut)).toBe("abcdefghij");
    expect(data.text("abcd", { heldOut: 0.5 }).heldOut.length).toBe(2);
  });

  it("names an unknown character and its place", () => {
    const { tokenizer } = data.text("abc");
    expect(() => tokenizer.encode("abx")).toThrow(/text\[2\] is "x", want one of the 3 characters/);
    expect(() => tokenizer.encode("abx")).toThrow(DataError);
    expect(() => tokenizer.decode([3])).toThrow(/tokens contain 3, want integers from 0 to 2/);
  });

  it("refuses empty, missing and binary files", async () => {
    expect(() => data.text("")).toThrow(/text is empty \(0 characters\)/);
    await expect(data.textFile(join(folder, "none"))).rejects.toThrow(/cannot read .*none/);
    await writeFile(join(folder, "empty.txt"), "");
    await expect(data.textFile(join(folder, "empty.txt"))).rejects.toThrow(/empty\.txt is empty/);
    await writeFile(join(folder, "bad.txt"), Buffer.of(0x61, 0xff, 0xfe));
    await expect(data.textFile(join(folder, "bad.txt"))).rejects.toThrow(/not UTF-8/);
    await writeFile(join(folder, "good.txt"), "hello");
    expect((await data.textFile(join(folder, "good.txt"))).vocab).toBe(4);
  });
});

describe("tokenFile", () => {
  const file = (name: string, bytes: number[]) => {
    const path = join(folder, name);
    return writeFile(path, Buffer.from(bytes)).then(() => path);
  };
  it("reads little-endian numbers", async () => {
    const set = await data.tokenFile(await file("a.bin", [1, 0, 2, 1, 3, 0, 4, 0]), { heldOut: 0.25 });
    expect([...set.train, ...set.heldOut]).toEqual([1, 258, 3, 4]);
    expect(set.heldOut.length).toBe(1);
    expect(set.vocab).toBe(259);
  });
  it("refuses odd sizes, empty files and tokens outside the vocabulary", async () => {
    await expect(data.tokenFile(await file("b.bin", [1, 0, 2]))).rejects.toThrow(/has 3 bytes, want an even number/);
    await expect(data.tokenFile(await file("c.bin", []))).rejects.toThrow(/has 0 bytes/);
    await expect(data.tokenFile(await file("d.bin", [9, 0]), { vocab: 5 })).rejects.toThrow(
      /token 9, want less than vocab 5/,
    );
    await expect(data.tokenFile(join(folder, "none.bin"))).rejects.toThrow(DataError);
  });
});

describe("mobyDick", () => {
  it("is the novel", () => {
    const set = data.mobyDick();
    const start = set.tokenizer.decode(set.train.subarray(0, 60_000));
    expect(start).toContain("Ishmael");
    expect(set.train.length + set.heldOut.length).toBeGreaterThan(1_100_000);
  });
});

describe("sampleText", () => {
  it("ships, is the start of the novel, and is enough for the default context", () => {
    const set = data.sampleText();
    expect(set.tokenizer.decode(set.train.subarray(0, 40))).toMatch(/^Loomings\.\n\nCall me Ishmael\. /);
    expect([set.train.length + set.heldOut.length, set.vocab]).toEqual([61225, 67]);
    expect(data.sampleText({ heldOut: 0.5 }).heldOut.length).toBe(30613);
    const novel = data.mobyDick();
    expect(novel.tokenizer.decode(novel.train)).toContain(set.tokenizer.decode(set.train.subarray(0, 10_000)));
  });
});

describe("batches", () => {
  const tokens = Int32Array.from({ length: 100 }, (_, i) => i);
  it("random windows depend on the seed alone; targets are the next tokens", () => {
    const take = (seed: number) => {
      const batches = data.randomBatches(tokens, { batch: 3, context: 7, seed });
      return Array.from({ length: 5 }, () => batches.next().value);
    };
    expect(take(1)).toEqual(take(1));
    expect(take(1)).not.toEqual(take(2));
    for (const batch of take(3)) {
      expect(batch.tokens.length).toBe(21);
      expect([...batch.targets]).toEqual([...batch.tokens].map((t) => t + 1));
    }
  });
  it("random windows reach both ends", () => {
    const batches = data.randomBatches(tokens.subarray(0, 10), { batch: 200, context: 7 });
    const starts = new Set(Array.from(batches.next().value.tokens).filter((_, i) => i % 7 === 0));
    expect([...starts].sort()).toEqual([0, 1, 2]);
  });
  it("sequential windows cover everything once", () => {
    const rows = [...data.sequentialBatches(tokens, { batch: 4, context: 9 })];
    expect(rows.map((b) => b.rows)).toEqual([4, 4, 3]);
    expect(rows.flatMap((b) => [...b.tokens])).toEqual(Array.from({ length: 99 }, (_, i) => i));
    expect([...data.sequentialBatches(tokens, { batch: 4, context: 9, batches: 2 })].length).toBe(2);
  });
  it("says the lengths when the text is too short", () => {
    for (const make of [data.randomBatches, data.sequentialBatches]) {
      expect(() => make(tokens.subarray(0, 7), { batch: 1, context: 7 })).toThrow(
        /tokens has 7 tokens, want at least 8: context 7/,
      );
      expect(() => make(tokens, { batch: 0, context: 7 })).toThrow(/options\.batch is 0/);
    }
  });
});
