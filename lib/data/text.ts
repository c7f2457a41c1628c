/** Text as characters: the smallest tokenizer that needs no file of its own. */
import { readFile } from "node:fs/promises";
import { ArgumentTypeError, DataError } from "../errors.ts";
import { checkOptions, show } from "../validate.ts";
import { type Dataset, splitKeys, splitTokens, type Tokens } from "./dataset.ts";

/** Characters (Unicode code points) to token numbers and back; the vocabulary is sorted, so equal texts give equal numbers. */
export class CharTokenizer {
  /** Character of each token. */
  readonly vocabulary: readonly string[];
  readonly #numbers: Map<string, number>;

  /** @param vocabulary  distinct characters   @throws {TypeError} */
  constructor(vocabulary: readonly string[]) {
    if (!Array.isArray(vocabulary) || !vocabulary.every((c) => typeof c === "string" && [...c].length === 1))
      throw new ArgumentTypeError(
        `CharTokenizer: vocabulary is ${show(vocabulary)}, want an array of single characters`,
      );
    this.vocabulary = Object.freeze([...vocabulary]);
    this.#numbers = new Map(vocabulary.map((c, i) => [c, i]));
    if (this.#numbers.size !== vocabulary.length)
      throw new ArgumentTypeError("CharTokenizer: vocabulary lists a character twice, want distinct characters");
  }

  /** The tokenizer of all characters of a text. @throws {DataError} the text is empty */
  static of(text: string): CharTokenizer {
    checkText("CharTokenizer.of", text);
    return new CharTokenizer([...new Set(text)].sort());
  }

  /** @throws {DataError} a character outside the vocabulary; the message names it and its position */
  encode(text: string): Int32Array {
    const out: number[] = [];
    for (const character of text) {
      const number = this.#numbers.get(character);
      if (number === undefined)
        throw new DataError(
          `CharTokenizer.encode: text[${out.length}] is ${JSON.stringify(character)}, want one of the ${this.vocabulary.length} characters of the vocabulary`,
        );
      out.push(number);
    }
    return Int32Array.from(out);
  }

  /** @throws {DataError} a number outside the vocabulary */
  decode(tokens: Iterable<number>): string {
    let text = "";
    for (const token of tokens) {
      const character = this.vocabulary[token];
      if (character === undefined)
        throw new DataError(
          `CharTokenizer.decode: tokens contain ${token}, want integers from 0 to ${this.vocabulary.length - 1}`,
        );
      text += character;
    }
    return text;
  }
}

export interface TextDataset extends Dataset {
  readonly tokenizer: CharTokenizer;
}

function checkText(fn: string, text: unknown): void {
  if (typeof text !== "string") throw new ArgumentTypeError(`${fn}: text is ${show(text)}, want a string`);
  if (text.length === 0) throw new DataError(`${fn}: text is empty (0 characters), want at least 1`);
}

/**
 * A character data set: vocabulary of the whole text, its end held out.
 *
 * @param options.heldOut  share held out, in [0, 1); default 0.1
 * @throws {DataError} the text is empty   @throws {TypeError} no text, an unknown option
 */
export function text(value: string, options: { heldOut?: number } = {}): TextDataset {
  checkText("text", value);
  checkOptions("text", options, splitKeys);
  const tokenizer = CharTokenizer.of(value);
  const parts = splitTokens<Tokens>("text", tokenizer.encode(value), options.heldOut ?? 0.1);
  return { ...parts, vocab: tokenizer.vocabulary.length, tokenizer };
}

/** `text` of a UTF-8 file. @throws {DataError} unreadable, empty, or not UTF-8   @throws {TypeError} an unknown option */
export async function textFile(path: string, options: { heldOut?: number } = {}): Promise<TextDataset> {
  const fn = "textFile";
  checkOptions(fn, options, splitKeys);
  let value: string;
  try {
    value = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await readFile(path));
  } catch (cause) {
    const why = cause instanceof TypeError ? "it is not UTF-8 text" : (cause as Error).message;
    throw new DataError(`${fn}: cannot read ${path}: ${why}`);
  }
  if (value.length === 0) throw new DataError(`${fn}: ${path} is empty (0 characters), want at least 1`);
  return text(value, options);
}
