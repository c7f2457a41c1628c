/** Data sets of tokens and batches of them. */

export type { Batch, BatchOptions } from "./batches.ts";
export { batchTensors, randomBatches, sequentialBatches } from "./batches.ts";
export type { Dataset, Tokens } from "./dataset.ts";
export { mobyDick } from "./moby_dick.ts";
export { sampleText } from "./sample.ts";
export type { TextDataset } from "./text.ts";
export { CharTokenizer, text, textFile } from "./text.ts";
export { tokenFile } from "./tokens.ts";
