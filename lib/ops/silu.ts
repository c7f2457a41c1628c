import { defineOp } from "../autograd.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkTensor } from "../validate.ts";

const siluOp = defineOp<[Tensor]>({
  name: "silu",
  forward(ctx, [x]) {
    ctx.save(x);
    const out = Tensor.empty(x.shape, x.dtype, x.device);
    native.siluForward(x.handle, out.handle);
    return out;
  },
  backward(ctx, [grad]) {
    const [x] = ctx.saved;
    const out = Tensor.empty(x!.shape, x!.dtype, x!.device);
    native.siluBackward(x!.handle, grad!.handle, out.handle);
    return [out];
  },
});

/**
 * x · σ(x), σ(x) = 1/(1 + e⁻ˣ).  d/dx = σ (1 + x (1 − σ)).
 *
 * @param x  float32 or bfloat16, any shape
 * @returns  same shape and dtype
 * @throws {DTypeError} x is int32   @throws {DisposedError} `x` was disposed
 */
export function silu(x: Tensor): Tensor {
  checkTensor("silu", "x", x, { dtype: ["float32", "bfloat16"] });
  return siluOp([x]);
}
