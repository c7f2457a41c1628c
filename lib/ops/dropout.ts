import { defineOp } from "../autograd.ts";
import { type Draw, drawSeed } from "../graph.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkInteger, checkNumber, checkOptions, checkTensor, type Keys } from "../validate.ts";

export interface DropoutOptions {
  /** Integer 0 … 2^53 − 1; default: the next one of the sequence started by `setSeed`. */
  seed?: number;
}

const optionKeys: Keys<DropoutOptions> = { seed: "checked" };

function masked(x: Tensor, p: number, { seeds, seed }: Draw): Tensor {
  const y = Tensor.empty(x.shape, x.dtype, x.device);
  native.dropout(x.handle, y.handle, seeds?.handle ?? null, p, seed);
  return y;
}

const dropoutOp = defineOp<[x: Tensor], { p: number; draw: Draw }>({
  name: "dropout",
  forward: (_, [x], { p, draw }) => masked(x, p, draw),
  backward: (_, [grad], { p, draw }) => [masked(grad!, p, draw)],
});

/**
 * Sets each element to 0 with probability p and divides the others by 1 − p. There is no training switch: do not call it
 * when evaluating.
 *
 * y = x · keep / (1 − p);  keep[i] is a pure function of (seed, i), equal on every device and thread count, and is drawn again
 * in backward rather than stored.
 *
 * @param x  [...] float32 or bfloat16
 * @param p  probability, 0 … 1
 * @returns  same shape and dtype
 * @throws {RangeError} p or seed out of range   @throws {DTypeError} an int32 tensor   @throws {DisposedError} `x` was disposed
 * @throws {TypeError} an unknown option
 */
export function dropout(x: Tensor, p: number, options: DropoutOptions = {}): Tensor {
  const fn = "dropout";
  checkTensor(fn, "x", x, { dtype: ["float32", "bfloat16"] });
  checkNumber(fn, "p", p, 0, 1);
  checkOptions(fn, options, optionKeys);
  const draw = options.seed === undefined ? drawSeed() : { seed: checkInteger(fn, "options.seed", options.seed, 0) };
  return dropoutOp([x], { p, draw });
}
