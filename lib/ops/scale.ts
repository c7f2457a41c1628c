import { defineOp } from "../autograd.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkNumber, checkTensor } from "../validate.ts";

function scaled(x: Tensor, factor: number): Tensor {
  const out = Tensor.empty(x.shape, x.dtype, x.device);
  native.scale(x.handle, out.handle, factor);
  return out;
}

const scaleOp = defineOp<[Tensor], { factor: number }>({
  name: "scale",
  forward: (_, [x], { factor }) => scaled(x, factor),
  backward: (_, [grad], { factor }) => [scaled(grad!, factor)],
});

/**
 * x · factor.
 *
 * @param x       float32 or bfloat16, any shape
 * @param factor  a finite number, used as float32
 * @throws {RangeError} factor not finite   @throws {DTypeError} x is int32   @throws {DisposedError} `x` was disposed
 */
export function scale(x: Tensor, factor: number): Tensor {
  checkTensor("scale", "x", x, { dtype: ["float32", "bfloat16"] });
  return scaleOp([x], { factor: checkNumber("scale", "factor", factor) });
}
