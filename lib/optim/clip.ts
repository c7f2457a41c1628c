/** Clipping by the global norm: all gradients shrink by one factor, so that their direction stays. */
import { ArgumentTypeError } from "../errors.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkNumber, checkSameDevice, checkTensor, show } from "../validate.ts";

/**
 * Scales gradients in place by min(1, max / ‖g‖), ‖g‖ over all of them together; nothing is read back, so nothing waits.
 *
 * @param grads  float32 gradients, as `valueAndGrad` returns them; changed
 * @param max    > 0; Infinity only measures
 * @returns      ‖g‖ before clipping, [1] float32; yours to dispose
 * @throws {TypeError} grads is empty or no list of tensors   @throws {RangeError} max
 */
export function clipGradNorm(grads: readonly Tensor[], max: number): Tensor {
  const fn = "clipGradNorm";
  if (!Array.isArray(grads) || grads.length === 0)
    throw new ArgumentTypeError(`${fn}: grads is ${show(grads)}, want at least one tensor`);
  if (max !== Infinity) checkNumber(fn, "max", max, Number.MIN_VALUE);
  for (const [i, grad] of grads.entries()) {
    checkTensor(fn, `grads[${i}]`, grad, { dtype: ["float32"] });
    checkSameDevice(fn, { "grads[0]": grads[0], [`grads[${i}]`]: grad });
  }
  const { device } = grads[0]!;
  const squares = Tensor.empty([1], "float32", device);
  for (const [i, grad] of grads.entries()) native.sumSquares(grad.handle, squares.handle, i === 0 ? 0 : 1);
  const norm = Tensor.empty([1], "float32", device);
  native.squareRoot(squares.handle, norm.handle);
  if (max !== Infinity) for (const grad of grads) native.clipScale(grad.handle, squares.handle, max);
  squares.dispose();
  return norm;
}
