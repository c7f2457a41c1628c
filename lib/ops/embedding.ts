import { defineOp } from "../autograd.ts";
import { ShapeError } from "../errors.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkSameDevice, checkTensor } from "../validate.ts";

const embeddingOp = defineOp<[indices: Tensor, weight: Tensor], { vocabulary: number; channels: number }>({
  name: "embedding",
  forward(ctx, [indices, weight], { vocabulary, channels }) {
    ctx.save(indices, weight);
    const out = Tensor.empty([...indices.shape, channels], weight.dtype, weight.device);
    native.embeddingForward(indices.handle, weight.handle, out.handle, indices.size, vocabulary, channels);
    return out;
  },
  backward(ctx, [grad], { vocabulary, channels }) {
    const [indices, weight] = ctx.saved as [Tensor, Tensor];
    if (!ctx.needs[1]) return [undefined, undefined];
    const out = Tensor.empty(weight.shape, weight.dtype, weight.device);
    native.embeddingBackward(indices.handle, grad!.handle, out.handle, indices.size, vocabulary, channels);
    return [undefined, out];
  },
});

/**
 * Rows of a table: out[t] = weight[indices[t]]. The gradient is dense; rows used more than once sum in float32, in the order
 * of the tokens.
 *
 * @param indices  [...] int32, each from 0 to V − 1
 * @param weight   [V, C] float32 or bfloat16
 * @returns        [..., C] in weight's dtype
 * @throws {RangeError}    an index out of range; found while running, so it surfaces at the next read
 * @throws {ShapeError}    weight has not two axes   @throws {DTypeError} a wrong dtype
 * @throws {DeviceError}   different devices         @throws {DisposedError} an argument was disposed
 */
export function embedding(indices: Tensor, weight: Tensor): Tensor {
  const fn = "embedding";
  checkTensor(fn, "indices", indices, { dtype: ["int32"] });
  checkTensor(fn, "weight", weight, { dtype: ["float32", "bfloat16"] });
  if (weight.shape.length !== 2)
    throw new ShapeError(`${fn}: weight has shape [${weight.shape.join(", ")}], want [vocabulary, channels]`);
  checkSameDevice(fn, { indices, weight });
  return embeddingOp([indices, weight], { vocabulary: weight.shape[0]!, channels: weight.shape[1]! });
}
