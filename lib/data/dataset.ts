/** What training needs of a data set: tokens to train on, tokens held out, and how many kinds there are. */
import { DataError } from "../errors.ts";
import { checkNumber, type Keys } from "../validate.ts";

/** A sequence of token numbers. */
export type Tokens = Uint16Array | Int32Array;

export interface Dataset {
  /** Token numbers are 0 … vocab − 1. */
  readonly vocab: number;
  readonly train: Tokens;
  readonly heldOut: Tokens;
}

/** @internal */
export const splitKeys: Keys<{ heldOut?: number }> = { heldOut: "checked" };

/** @internal Splits the end off as held-out part. @param share  of held-out tokens, in [0, 1) */
export function splitTokens<T extends Tokens>(fn: string, tokens: T, share: number): { train: T; heldOut: T } {
  checkNumber(fn, "options.heldOut", share, 0, 1 - 1e-9);
  const cut = Math.floor(tokens.length * (1 - share));
  return { train: tokens.subarray(0, cut) as T, heldOut: tokens.subarray(cut) as T };
}

/** @internal Throws unless `tokens` hold at least one window of `context` tokens and their successors. */
export function checkLength(fn: string, argument: string, tokens: Tokens, context: number): void {
  if (tokens.length < context + 1)
    throw new DataError(
      `${fn}: ${argument} has ${tokens.length} tokens, want at least ${context + 1}: context ${context} and one to predict`,
    );
}
