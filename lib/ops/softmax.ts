import { defineOp } from "../autograd.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkTensor, sizeOf } from "../validate.ts";

const softmaxOp = defineOp<[x: Tensor], { rows: number; columns: number }>({
  name: "softmax",
  forward(ctx, [x], { rows, columns }) {
    const y = Tensor.empty(x.shape, x.dtype, x.device);
    native.softmaxForward(x.handle, y.handle, rows, columns);
    ctx.save(y);
    return y;
  },
  backward(ctx, [grad], { rows, columns }) {
    const [y] = ctx.saved as [Tensor];
    const out = Tensor.empty(y.shape, y.dtype, y.device);
    native.softmaxBackward(y.handle, grad!.handle, out.handle, rows, columns);
    return [out];
  },
});

/**
 * Softmax over the last axis.
 *
 * y = exp(x − max x) / Σ exp(x − max x);  dx = y · (dy − Σ dy · y)
 *
 * @param x  [..., N] float32 or bfloat16
 * @returns  same shape and dtype; entries in [0, 1], each row sums to 1 up to rounding
 * @throws {ShapeError} x has no axis   @throws {DTypeError} an int32 tensor   @throws {DisposedError} `x` was disposed
 */
export function softmax(x: Tensor): Tensor {
  const fn = "softmax";
  checkTensor(fn, "x", x, { dtype: ["float32", "bfloat16"], minRank: 1 });
  return softmaxOp([x], { rows: sizeOf(fn, "x", x.shape.slice(0, -1)), columns: x.shape.at(-1)! });
}
