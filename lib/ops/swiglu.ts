import { defineOp } from "../autograd.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkSameDevice, checkSameDType, checkShape, checkTensor } from "../validate.ts";

const swigluOp = defineOp<[Tensor, Tensor]>({
  name: "swiglu",
  forward(ctx, [gate, up]) {
    ctx.save(gate, up);
    const out = Tensor.empty(gate.shape, gate.dtype, gate.device);
    native.swigluForward(gate.handle, up.handle, out.handle);
    return out;
  },
  backward(ctx, [grad]) {
    const [gate, up] = ctx.saved;
    const [gradGate, gradUp] = ctx.needs.map((need) =>
      need ? Tensor.empty(gate!.shape, gate!.dtype, gate!.device) : undefined,
    );
    native.swigluBackward(gate!.handle, up!.handle, grad!.handle, gradGate?.handle ?? null, gradUp?.handle ?? null);
    return [gradGate, gradUp];
  },
});

/**
 * silu(gate) · up, element by element (arXiv:2002.05202).
 *
 * @param gate  float32 or bfloat16, any shape
 * @param up    same shape and dtype
 * @returns     same shape and dtype; rounded once
 * @throws {ShapeError} shapes differ              @throws {DTypeError} int32, or different dtypes
 * @throws {DeviceError} on different devices      @throws {DisposedError} an argument was disposed
 */
export function swiglu(gate: Tensor, up: Tensor): Tensor {
  const fn = "swiglu";
  checkTensor(fn, "gate", gate, { dtype: ["float32", "bfloat16"] });
  checkTensor(fn, "up", up, { dtype: ["float32", "bfloat16"] });
  checkSameDType(fn, "up", up, gate.dtype, "gate");
  checkShape(fn, "up", up, gate.shape);
  checkSameDevice(fn, { gate, up });
  return swigluOp([gate, up]);
}
