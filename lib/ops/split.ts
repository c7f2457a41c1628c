import { defineOp } from "../autograd.ts";
import { ShapeError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { checkAxis, checkInteger, checkTensor } from "../validate.ts";
import { joined, part } from "./layout.ts";

const splitOp = defineOp<[Tensor], { axis: number; parts: number; shape: readonly number[] }, Tensor[]>({
  name: "split",
  forward(_, [x], { axis, parts }) {
    const extent = x.shape[axis]! / parts;
    return Array.from({ length: parts }, (_, i) => part(x, axis, i * extent, (i + 1) * extent));
  },
  backward(_, grads, { axis, shape }) {
    // At least one part has a gradient, or backward would not run; a part that was not used counts as zeros.
    const { dtype, device } = grads.find((g) => g !== undefined)!;
    return [
      joined(
        grads.map((g) => g ?? Tensor.zeros(shape, { dtype, device })),
        axis,
      ),
    ];
  },
});

/**
 * Cuts an axis into equal parts: [part 0, part 1, …]. Views for axis 0, else copies.
 *
 * @param x      any shape with at least one axis, any dtype
 * @param parts  at least 1; divides the axis's extent
 * @param axis   default 0; negative from the end
 * @throws {ShapeError} parts does not divide the extent, x is a scalar   @throws {RangeError} parts or axis out of range
 * @throws {DisposedError} `x` was disposed
 */
export function split(x: Tensor, parts: number, axis = 0): Tensor[] {
  const fn = "split";
  checkTensor(fn, "x", x, { minRank: 1 });
  const at = checkAxis(fn, "axis", axis, x.shape.length);
  checkInteger(fn, "parts", parts, 1, 65536);
  const extent = x.shape[at]!;
  if (extent % parts !== 0)
    throw new ShapeError(`${fn}: parts is ${parts}, want a divisor of ${extent}, the extent of axis ${at}`);
  const shape = x.shape.map((d, i) => (i === at ? extent / parts : d));
  return splitOp([x], { axis: at, parts, shape });
}
