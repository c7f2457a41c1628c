// The file format: round trips, and every way a file can be damaged or hostile. Nothing may crash or be accepted silently.
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { encodeSafetensors, parseSafetensors, type TensorEntry } from "../../lib/files/safetensors.ts";
import { CheckpointError, Tensor, train } from "../../lib/index.ts";
import { hostRandom } from "../../lib/random.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "birkhoff-files-"));
});
afterAll(() => rm(folder, { recursive: true }));

const entries = (): Map<string, TensorEntry> =>
  new Map<string, TensorEntry>([
    ["b.weight", { dtype: "float32", shape: [2, 3], data: Float32Array.of(1, -0, Number.NaN, Infinity, 1e-40, -2) }],
    ["a", { dtype: "bfloat16", shape: [3], data: Uint16Array.of(0x3f80, 0x8000, 0x7fc0) }],
    ["empty", { dtype: "float32", shape: [0, 7], data: new Float32Array(0) }],
    ["steps", { dtype: "int32", shape: [], data: Int32Array.of(-5) }],
  ]);

const small = () => Buffer.concat(encodeSafetensors(entries(), { note: "ä" }));

/** A file with this header over `size` bytes of data. */
function withHeader(header: unknown, size: number, padding = ""): Buffer {
  const text = Buffer.from((typeof header === "string" ? header : JSON.stringify(header)) + padding);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(size)]);
}

function rejected(bytes: Uint8Array, label: string): string {
  try {
    parseSafetensors(bytes, "some.file");
  } catch (error) {
    expect(error, label).toBeInstanceOf(CheckpointError);
    expect((error as Error).message, label).toContain("some.file");
    return (error as Error).message;
  }
  throw new Error(`${label}: was accepted`);
}

describe("safetensors", () => {
  it("round-trips every dtype bit for bit, and equal content is equal bytes", () => {
    const bytes = small();
    const { tensors, metadata } = parseSafetensors(bytes, "f");
    expect(tensors.size).toBe(4);
    for (const [name, want] of entries()) {
      const got = tensors.get(name)!;
      expect([got.dtype, got.shape]).toEqual([want.dtype, want.shape]);
      const raw = (d: TensorEntry["data"]) => Buffer.from(d.buffer, d.byteOffset, d.byteLength);
      expect(raw(got.data).equals(raw(want.data))).toBe(true);
    }
    expect(metadata.note).toBe("ä");
    const reversed = new Map([...entries()].reverse());
    expect(Buffer.concat(encodeSafetensors(reversed, { note: "ä" })).equals(bytes)).toBe(true);
    expect(Number(bytes.readBigUInt64LE(0)) % 8).toBe(0);
  });

  it("reads files of other programs, which have no checksum and their own order", () => {
    const header = {
      z: { dtype: "F32", shape: [1], data_offsets: [0, 4] },
      a: { dtype: "I32", shape: [2], data_offsets: [4, 12] },
    };
    expect([...parseSafetensors(withHeader(header, 12, "   "), "f").tensors.keys()]).toEqual(["z", "a"]);
    expect(parseSafetensors(withHeader({}, 0), "f").tensors.size).toBe(0);
  });

  it("rejects every truncation and every extension", () => {
    const bytes = small();
    for (let length = 0; length < bytes.length; length++) rejected(bytes.subarray(0, length), `${length} bytes`);
    rejected(Buffer.concat([bytes, Buffer.of(0)]), "one byte more");
  });

  it("rejects every flipped bit", () => {
    const bytes = small();
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      const copy = Buffer.from(bytes);
      copy[bit >> 3]! ^= 1 << (bit & 7);
      rejected(copy, `bit ${bit & 7} of byte ${bit >> 3}`);
    }
  });

  it("rejects 2000 flips of bits in a larger file, up to four at a time", () => {
    const data = Float32Array.from({ length: 16_000 }, (_, i) => Math.sin(i));
    const bytes = Buffer.concat(encodeSafetensors(new Map([["w", { dtype: "float32", shape: [16_000], data }]]), {}));
    const random = hostRandom(5);
    for (let k = 0; k < 2000; k++) {
      const flips = new Set(Array.from({ length: 1 + (k % 4) }, () => Math.floor(random() * 8 * bytes.length)));
      for (const bit of flips) bytes[bit >> 3]! ^= 1 << (bit & 7);
      rejected(bytes, `flips ${[...flips]}`);
      for (const bit of flips) bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
    expect(parseSafetensors(bytes, "f").tensors.size).toBe(1);
  });

  const entry = (dtype: unknown, shape: unknown, offsets: unknown, more = {}) => ({
    t: { dtype, shape, data_offsets: offsets, ...more },
  });
  const hostile: [string, unknown, number, RegExp][] = [
    ["an array", [], 0, /not a JSON object/],
    ["null", null, 0, /not a JSON object/],
    ["no JSON", "{", 0, /not JSON/],
    ["deep nesting", "[".repeat(100_000), 0, /not JSON|not a JSON object/],
    ["an entry that is no object", { t: 5 }, 0, /"t" is not an object/],
    ["an unknown dtype", entry("F64", [1], [0, 8]), 8, /dtype "F64", want F32, BF16 or I32/],
    ["a dtype from the prototype", entry("constructor", [1], [0, 4]), 4, /dtype "constructor"/],
    ["a negative extent", entry("F32", [-1], [0, 4]), 4, /bad shape/],
    ["a fraction", entry("F32", [1.5], [0, 6]), 6, /bad shape/],
    ["a huge extent", entry("F32", [2 ** 53], [0, 4]), 4, /bad shape|2\^50/],
    ["a wrapping product", entry("F32", [2 ** 31, 2 ** 31, 4], [0, 0]), 0, /2\^50/],
    ["an overflow behind a zero", entry("F32", [0, 2 ** 40, 2 ** 40], [0, 0]), 0, /2\^50/],
    ["too many axes", entry("F32", Array(1000).fill(1), [0, 4]), 4, /bad shape/],
    ["offsets in reverse", entry("F32", [1], [4, 0]), 4, /bad data_offsets/],
    ["three offsets", entry("F32", [1], [0, 4, 8]), 4, /bad data_offsets/],
    ["offsets outside", entry("F32", [2], [0, 8]), 4, /take 8 bytes, but 4 follow/],
    ["offsets of another size", entry("F32", [2], [0, 4]), 4, /takes 4 bytes, want 8/],
    ["a hole at the start", entry("F32", [1], [4, 8]), 8, /starts at 4, want 0/],
    ["an unknown field", entry("F32", [1], [0, 4], { x: 1 }), 4, /unknown field "x"/],
    ["data without a tensor", {}, 4, /take 0 bytes, but 4 follow/],
    ["metadata that are no strings", { __metadata__: { a: 1 } }, 0, /__metadata__\.a is not a string/],
    [
      "an overlap",
      { a: { dtype: "F32", shape: [2], data_offsets: [0, 8] }, b: { dtype: "F32", shape: [2], data_offsets: [4, 12] } },
      12,
      /"b" starts at 4, want 8/,
    ],
    [
      "a hole",
      { a: { dtype: "F32", shape: [1], data_offsets: [0, 4] }, b: { dtype: "F32", shape: [1], data_offsets: [8, 12] } },
      12,
      /"b" starts at 8, want 4/,
    ],
  ];
  it.each(hostile)("rejects %s", (label, header, size, message) => {
    expect(rejected(withHeader(header, size), label)).toMatch(message);
  });

  it("rejects a header length beyond the file and beyond 100 MB, without allocating it", () => {
    for (const length of [2n ** 63n, 2n ** 40n, 101n * 2n ** 20n]) {
      const bytes = Buffer.alloc(16);
      bytes.writeBigUInt64LE(length);
      expect(rejected(bytes, `${length}`)).toMatch(/header claims/);
    }
  });

  it("accepts a name like __proto__ without touching prototypes", () => {
    const header = '{"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}';
    expect([...parseSafetensors(withHeader(header, 4), "f").tensors.keys()]).toEqual(["__proto__"]);
  });

  it("writes atomically: a failure leaves the old file and no temporary one", async () => {
    const file = join(folder, "model.safetensors");
    using t = Tensor.from([1, 2, 3]);
    await train.writeSafetensors(file, new Map([["t", t]]));
    const before = await readFile(file);
    expect((await train.readSafetensors(file)).tensors.get("t")!.data).toEqual(Float32Array.of(1, 2, 3));
    const blocked = join(folder, "blocked");
    await writeFile(blocked, "a file, not a folder");
    const error = await train.writeSafetensors(join(blocked, "m"), new Map([["t", t]])).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as Error).message).toMatch(/cannot write .*blocked/);
    for (const metadata of ["a note", null, { step: 3 }])
      await expect(train.writeSafetensors(file, new Map(), metadata as never)).rejects.toThrow(/metadata(\.step)? is /);
    expect((await readFile(file)).equals(before)).toBe(true);
    expect((await readdir(folder)).sort()).toEqual(["blocked", "model.safetensors"]);
  });
});
