import { defineOp } from "../autograd.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkSameDevice, checkSameDType, checkSuffix, checkTensor } from "../validate.ts";
import { sumOfRepeats } from "./layout.ts";

function times(a: Tensor, b: Tensor): Tensor {
  const out = Tensor.empty(a.shape, a.dtype, a.device);
  native.mul(a.handle, b.handle, out.handle);
  return out;
}

const mulOp = defineOp<[Tensor, Tensor]>({
  name: "mul",
  forward(ctx, [a, b]) {
    ctx.save(a, b);
    return times(a, b);
  },
  backward(ctx, [grad]) {
    const [a, b] = ctx.saved;
    const repeats = b!.shape.length < a!.shape.length;
    return [
      ctx.needs[0] ? times(grad!, b!) : undefined,
      ctx.needs[1] ? (repeats ? sumOfRepeats(grad!, a, b!.shape) : times(grad!, a!)) : undefined,
    ];
  },
});

/**
 * a · b, element by element; b may have only the last axes of a, and then repeats over the others.
 *
 * da = dy · b;  db = dy · a, summed over the axes b lacks.
 *
 * @param a  float32 or bfloat16, any shape
 * @param b  a's dtype; a's shape, or the end of it
 * @returns  a's shape and dtype; each element rounded once
 * @throws {ShapeError} b's shape does not end a's   @throws {DTypeError} int32, or different dtypes
 * @throws {DeviceError} on different devices        @throws {DisposedError} an argument was disposed
 */
export function mul(a: Tensor, b: Tensor): Tensor {
  const fn = "mul";
  checkTensor(fn, "a", a, { dtype: ["float32", "bfloat16"] });
  checkTensor(fn, "b", b, { dtype: ["float32", "bfloat16"] });
  checkSameDType(fn, "b", b, a.dtype, "a");
  checkSuffix(fn, "b", b, a.shape);
  checkSameDevice(fn, { a, b });
  return mulOp([a, b]);
}
