import { defineOp } from "../autograd.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkInteger, checkTensor, sizeOf } from "../validate.ts";

const expandOp = defineOp<[h: Tensor], { tokens: number; n: number; channels: number }>({
  name: "expand",
  forward(_ctx, [h], { tokens, n, channels }) {
    const x = Tensor.empty([...h.shape.slice(0, -1), n, channels], h.dtype, h.device);
    native.expand(h.handle, x.handle, tokens, n, channels, 1);
    return x;
  },
  backward(_ctx, [grad], { tokens, n, channels }) {
    const out = Tensor.empty([...grad!.shape.slice(0, -2), channels], grad!.dtype, grad!.device);
    native.contract(out.handle, grad!.handle, tokens, n, channels, 1);
    return [out];
  },
});

/**
 * Copies a hidden state into n streams: the entry of a network of streams.  x_i = h.
 *
 * @param h  [..., C] float32 or bfloat16
 * @param n  streams, integer from 1 to 64
 * @returns  [..., n, C] in h's dtype
 * @throws {RangeError} n out of range   @throws {ShapeError | DTypeError | DisposedError} h does not fit
 */
export function expand(h: Tensor, n: number): Tensor {
  const fn = "expand";
  checkTensor(fn, "h", h, { dtype: ["float32", "bfloat16"], minRank: 1 });
  checkInteger(fn, "n", n, 1, 64);
  return expandOp([h], { tokens: sizeOf(fn, "h", h.shape.slice(0, -1)), n, channels: h.shape.at(-1)! });
}
