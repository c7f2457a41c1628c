/** The text that ships with the package, so that its first example needs nothing else. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../addon.ts";
import { checkOptions } from "../validate.ts";
import { splitKeys } from "./dataset.ts";
import { type TextDataset, text } from "./text.ts";

/**
 * The first chapters of Moby-Dick by Herman Melville (public domain) as a character data set: 61 thousand characters, 67 of them
 * distinct, the last tenth held out. Enough to see a loss fall, too little to learn to write.
 *
 * @param options.heldOut  share held out, in [0, 1); default 0.1
 * @throws {AddonError} a bundler has parted this code from the package's files   @throws {TypeError} an unknown option
 */
export function sampleText(options: { heldOut?: number } = {}): TextDataset {
  checkOptions("sampleText", options, splitKeys);
  return text(readFileSync(join(packageRoot(), "lib/data/sample.txt"), "utf8"), options);
}
