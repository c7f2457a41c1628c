/** Networks and texts small enough that a training run takes a fraction of a second. */
import { data, nn, setSeed } from "../../lib/index.ts";

export const tinyText = "the quick brown fox jumps over the lazy dog. ".repeat(40);

export const tinyDataset = () => data.text(tinyText);

/** A GPT of one block unless said otherwise; equal seeds give equal weights. */
export function tinyModel(options: Partial<nn.GPTOptions> & { seed?: number } = {}): nn.GPT {
  const { seed = 1, ...rest } = options;
  setSeed(seed);
  return new nn.GPT({ vocab: tinyDataset().vocab, dim: 16, layers: 1, heads: 2, context: 8, ...rest });
}
