/** Files of tokens made elsewhere: raw unsigned 16-bit little-endian numbers, as nanoGPT's prepare scripts write them. */
import { readFile } from "node:fs/promises";
import { DataError } from "../errors.ts";
import { checkInteger, checkOptions, type Keys } from "../validate.ts";
import { type Dataset, splitKeys, splitTokens } from "./dataset.ts";

interface TokenFileOptions {
  /** Number of tokens; default the largest in the file + 1. */
  vocab?: number;
  /** Share held out, in [0, 1); default 0.1. */
  heldOut?: number;
}

const optionKeys: Keys<TokenFileOptions> = { ...splitKeys, vocab: "checked" };

/**
 * A data set from a raw uint16 token file, its end held out.
 *
 * @throws {DataError} unreadable, empty, an odd number of bytes, or a token outside the vocabulary
 * @throws {TypeError} an unknown option
 */
export async function tokenFile(path: string, options: TokenFileOptions = {}): Promise<Dataset> {
  const fn = "tokenFile";
  checkOptions(fn, options, optionKeys);
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new DataError(`${fn}: cannot read ${path}: ${(cause as Error).message}`);
  }
  if (bytes.length === 0 || bytes.length % 2 !== 0)
    throw new DataError(`${fn}: ${path} has ${bytes.length} bytes, want an even number, two per token, at least 2`);
  const tokens = new Uint16Array(bytes.length / 2);
  let max = 0;
  for (let i = 0; i < tokens.length; i++) {
    tokens[i] = bytes.readUInt16LE(2 * i);
    max = Math.max(max, tokens[i]!);
  }
  const vocab = checkInteger(fn, "options.vocab", options.vocab ?? max + 1, 1, 65536);
  if (max >= vocab) throw new DataError(`${fn}: ${path} contains token ${max}, want less than vocab ${vocab}`);
  return { ...splitTokens(fn, tokens, options.heldOut ?? 0.1), vocab };
}
