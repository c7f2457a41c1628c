import { defineOp } from "../autograd.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkTensor } from "../validate.ts";

const geluOp = defineOp<[Tensor]>({
  name: "gelu",
  forward(ctx, [x]) {
    ctx.save(x);
    const out = Tensor.empty(x.shape, x.dtype, x.device);
    native.geluForward(x.handle, out.handle);
    return out;
  },
  backward(ctx, [grad]) {
    const [x] = ctx.saved;
    const out = Tensor.empty(x!.shape, x!.dtype, x!.device);
    native.geluBackward(x!.handle, grad!.handle, out.handle);
    return [out];
  },
});

/**
 * x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))), the form of GPT-2 (arXiv:1606.08415).
 *
 * @param x  float32 or bfloat16, any shape
 * @returns  same shape and dtype
 * @throws {DTypeError} x is int32   @throws {DisposedError} `x` was disposed
 */
export function gelu(x: Tensor): Tensor {
  checkTensor("gelu", "x", x, { dtype: ["float32", "bfloat16"] });
  return geluOp([x]);
}
