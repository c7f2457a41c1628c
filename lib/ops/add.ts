import { defineOp } from "../autograd.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkSameDevice, checkSameDType, checkSuffix, checkTensor } from "../validate.ts";
import { sumOfRepeats } from "./layout.ts";

const addOp = defineOp<[Tensor, Tensor], { shape: readonly number[]; repeats: boolean }>({
  name: "add",
  forward(_, [a, b]) {
    const out = Tensor.empty(a.shape, a.dtype, a.device);
    native.add(a.handle, b.handle, out.handle);
    return out;
  },
  backward(ctx, [grad], { shape, repeats }) {
    if (!ctx.needs[1]) return [grad, undefined];
    return [grad, repeats ? sumOfRepeats(grad!, undefined, shape) : grad];
  },
});

/**
 * a + b; b may have only the last axes of a, and then repeats over the others (its gradient is the sum over them).
 *
 * @param a  float32 or bfloat16, any shape
 * @param b  a's dtype; a's shape, or the end of it
 * @returns  a's shape and dtype; each element rounded once
 * @throws {ShapeError} b's shape does not end a's   @throws {DTypeError} int32, or different dtypes
 * @throws {DeviceError} on different devices        @throws {DisposedError} an argument was disposed
 */
export function add(a: Tensor, b: Tensor): Tensor {
  const fn = "add";
  checkTensor(fn, "a", a, { dtype: ["float32", "bfloat16"] });
  checkTensor(fn, "b", b, { dtype: ["float32", "bfloat16"] });
  checkSameDType(fn, "b", b, a.dtype, "a");
  checkSuffix(fn, "b", b, a.shape);
  checkSameDevice(fn, { a, b });
  return addOp([a, b], { shape: b.shape, repeats: b.shape.length < a.shape.length });
}
