/**
 * safetensors, the file format of model weights: u64 header length, JSON header, raw little-endian values.
 *
 * The reader trusts nothing: it checks the whole header before it allocates, so a damaged or hostile file is a CheckpointError.
 * Files of this package also carry a SHA-256 over header and values, so that no flipped bit goes unnoticed.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { DType } from "../dtype.ts";
import { ArgumentTypeError, CheckpointError } from "../errors.ts";
import { readAll, type Tensor } from "../tensor.ts";
import { isPlain, show } from "../validate.ts";
import { writeAtomically } from "./atomic.ts";

/** A tensor of a file: float32 as Float32Array, int32 as Int32Array, bfloat16 as raw bits. */
export interface TensorEntry {
  dtype: DType;
  shape: readonly number[];
  data: Float32Array | Int32Array | Uint16Array;
}

export interface SafetensorsFile {
  tensors: Map<string, TensorEntry>;
  metadata: Record<string, string>;
}

const maxHeader = 100 * 2 ** 20;
const maxRank = 16;
const format = "birkhoff";
const formatKey = "format";
const hashKey = "sha256";
const fileNames: Record<DType, string> = { float32: "F32", bfloat16: "BF16", int32: "I32" };
const dtypes: Record<string, DType> = { F32: "float32", BF16: "bfloat16", I32: "int32" };
const width: Record<DType, number> = { float32: 4, bfloat16: 2, int32: 4 };

interface HeaderEntry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** The header with its names in order, so that equal content is equal bytes. */
function headerText(entries: Map<string, HeaderEntry>, metadata: Record<string, string>): string {
  const parts = [`"__metadata__":${JSON.stringify(Object.fromEntries(Object.entries(metadata).sort(byName)))}`];
  for (const [name, e] of [...entries].sort(byName))
    parts.push(
      `${JSON.stringify(name)}:${JSON.stringify({ dtype: e.dtype, shape: e.shape, data_offsets: e.data_offsets })}`,
    );
  return `{${parts.join(",")}}`;
}

const byName = ([a]: [string, unknown], [b]: [string, unknown]) => (a < b ? -1 : a > b ? 1 : 0);

function digest(header: string, data: Iterable<Uint8Array>): string {
  const hash = createHash("sha256").update(header).update("\n");
  for (const chunk of data) hash.update(chunk);
  return hash.digest("hex");
}

const bytesOf = (data: TensorEntry["data"]) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** @internal The bytes of a file, in pieces. */
export function encodeSafetensors(tensors: Map<string, TensorEntry>, metadata: Record<string, string>): Uint8Array[] {
  const entries = new Map<string, HeaderEntry>();
  const data: Uint8Array[] = [];
  let offset = 0;
  for (const [name, entry] of [...tensors].sort(byName)) {
    const bytes = bytesOf(entry.data);
    const range: [number, number] = [offset, offset + bytes.length];
    entries.set(name, { dtype: fileNames[entry.dtype], shape: [...entry.shape], data_offsets: range });
    data.push(bytes);
    offset += bytes.length;
  }
  const own: Record<string, string> = { ...metadata, [formatKey]: format };
  const sealed = { ...own, [hashKey]: digest(headerText(entries, own), data) };
  const text = Buffer.from(headerText(entries, sealed));
  const header = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, " ");
  header.writeBigUInt64LE(BigInt(header.length - 8), 0);
  text.copy(header, 8);
  return [header, ...data];
}

/**
 * Writes tensors to a safetensors file, atomically. They must stay as they are until it resolves: they are read a few at a time,
 * so that a GPU does not hold a second copy of a model.
 *
 * @param metadata  strings for the header; "format" and "sha256" are set by this function
 * @throws {TypeError} metadata that is no string   @throws {CheckpointError} the file cannot be written; nothing half-written stays
 */
export async function writeSafetensors(
  file: string,
  tensors: Map<string, Tensor>,
  metadata: Record<string, string> = {},
): Promise<void> {
  if (!isPlain(metadata))
    throw new ArgumentTypeError(`writeSafetensors: metadata is ${show(metadata)}, want an object of strings`);
  for (const [key, value] of Object.entries(metadata))
    if (typeof value !== "string")
      throw new ArgumentTypeError(`writeSafetensors: metadata.${key} is ${show(value)}, want a string`);
  const read = (t: Tensor): Promise<TensorEntry["data"]> => (t.dtype === "bfloat16" ? t.bits() : t.data());
  const values = await readAll([...tensors.values()], read);
  const entries = new Map<string, TensorEntry>();
  for (const [i, [name, t]] of [...tensors].entries())
    entries.set(name, { dtype: t.dtype, shape: [...t.shape], data: values[i]! });
  try {
    await writeAtomically(file, encodeSafetensors(entries, metadata));
  } catch (cause) {
    throw new CheckpointError(`save: cannot write ${file}: ${(cause as Error).message}`);
  }
}

/** Reads and checks a whole safetensors file. @throws {CheckpointError} unreadable or damaged; names the file and the flaw */
export async function readSafetensors(file: string): Promise<SafetensorsFile> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (cause) {
    throw new CheckpointError(`load: cannot read ${file}: ${(cause as Error).message}`);
  }
  return parseSafetensors(bytes, file);
}

/** @internal Parses the bytes of a file; `file` stands in messages. */
export function parseSafetensors(bytes: Uint8Array, file: string): SafetensorsFile {
  const fail = (what: string): never => {
    throw new CheckpointError(`load: ${file} is damaged or no safetensors file: ${what}`);
  };
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (buffer.length < 8) fail(`it has ${buffer.length} bytes, want at least 8`);
  const length = buffer.readBigUInt64LE(0);
  if (length > BigInt(maxHeader)) fail(`the header claims ${length} bytes, want at most ${maxHeader}`);
  const start = 8 + Number(length);
  if (start > buffer.length) fail(`the header claims ${length} bytes, but only ${buffer.length - 8} follow`);
  const header = parseHeader(buffer.subarray(8, start), fail);
  const metadata = checkMetadata(header.get("__metadata__"), fail);
  header.delete("__metadata__");
  const entries = new Map<string, HeaderEntry>();
  for (const [name, value] of header) entries.set(name, checkEntry(name, value, fail));
  let end = 0;
  for (const [name, { data_offsets }] of [...entries].sort((a, b) => a[1].data_offsets[0] - b[1].data_offsets[0])) {
    if (data_offsets[0] !== end) fail(`"${name}" starts at ${data_offsets[0]}, want ${end}: a hole or an overlap`);
    end = data_offsets[1];
  }
  if (end !== buffer.length - start)
    fail(`the tensors take ${end} bytes, but ${buffer.length - start} follow the header`);
  checkHash(entries, metadata, buffer.subarray(start), fail);
  const tensors = new Map<string, TensorEntry>();
  for (const [name, { dtype, shape, data_offsets }] of entries) {
    // A copy: the file's bytes need not be aligned.
    const raw = buffer.buffer.slice(
      buffer.byteOffset + start + data_offsets[0],
      buffer.byteOffset + start + data_offsets[1],
    ) as ArrayBuffer;
    const kind = dtypes[dtype]!;
    const data =
      kind === "float32" ? new Float32Array(raw) : kind === "int32" ? new Int32Array(raw) : new Uint16Array(raw);
    tensors.set(name, { dtype: kind, shape, data });
  }
  return { tensors, metadata };
}

type Fail = (what: string) => never;

function parseHeader(bytes: Buffer, fail: Fail): Map<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    return fail(`the header is not JSON: ${(cause as Error).message.slice(0, 80)}`);
  }
  if (!isObject(value)) return fail("the header is not a JSON object");
  return new Map(Object.entries(value));
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function checkMetadata(value: unknown, fail: Fail): Record<string, string> {
  if (value === undefined) return {};
  if (!isObject(value)) return fail("__metadata__ is not an object");
  for (const [key, text] of Object.entries(value))
    if (typeof text !== "string") return fail(`__metadata__.${key} is not a string`);
  return value as Record<string, string>;
}

function checkEntry(name: string, value: unknown, fail: Fail): HeaderEntry {
  if (!isObject(value)) return fail(`"${name}" is not an object`);
  const { dtype, shape, data_offsets: offsets, ...rest } = value;
  if (Object.keys(rest).length) return fail(`"${name}" has an unknown field ${JSON.stringify(Object.keys(rest)[0])}`);
  if (typeof dtype !== "string" || !Object.hasOwn(dtypes, dtype))
    return fail(`"${name}" has dtype ${JSON.stringify(dtype)}, want F32, BF16 or I32`);
  if (!isSizes(shape) || shape.length > maxRank) return fail(`"${name}" has a bad shape`);
  if (!isSizes(offsets) || offsets.length !== 2 || offsets[1]! < offsets[0]!)
    return fail(`"${name}" has bad data_offsets`);
  // Extents of 0 count as 1 for the bound, so that they cannot hide an overflow of the others.
  let bound = 1;
  for (const extent of shape) bound *= Math.max(extent, 1);
  if (bound > 2 ** 50) return fail(`"${name}" has more than 2^50 elements`);
  const want = shape.reduce((a, b) => a * b, 1) * width[dtypes[dtype]!];
  if (offsets[1]! - offsets[0]! !== want)
    return fail(`"${name}" takes ${offsets[1]! - offsets[0]!} bytes, want ${want} for [${shape.join(", ")}]`);
  return { dtype, shape, data_offsets: offsets as [number, number] };
}

const isSizes = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((v) => Number.isSafeInteger(v) && v >= 0 && !Object.is(v, -0));

// Only files of this package have a hash; either mark alone is enough to demand it, so no single flip removes the check.
function checkHash(
  entries: Map<string, HeaderEntry>,
  metadata: Record<string, string>,
  data: Uint8Array,
  fail: Fail,
): void {
  const { [hashKey]: want, ...own } = metadata;
  if (want === undefined && metadata[formatKey] !== format) return;
  if (want === undefined) fail("its checksum is missing");
  else if (digest(headerText(entries, own), [data]) !== want) fail("its checksum does not fit its content");
}
