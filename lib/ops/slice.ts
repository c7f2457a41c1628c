import { defineOp } from "../autograd.ts";
import { Tensor } from "../tensor.ts";
import { checkAxis, checkInteger, checkTensor } from "../validate.ts";
import { copyPart, part } from "./layout.ts";

const sliceOp = defineOp<[Tensor], { source: readonly number[]; axis: number; start: number; end: number }>({
  name: "slice",
  forward: (_, [x], { axis, start, end }) => part(x, axis, start, end),
  backward(_, [grad], { source, axis, start }) {
    const out = Tensor.zeros(source, { dtype: grad!.dtype, device: grad!.device });
    copyPart(out, grad!, axis, start, "whole");
    return [out];
  },
});

/**
 * Elements start … end − 1 along one axis. A view where they are contiguous (the first axis), else a copy.
 *
 * @param x      any shape with at least one axis, any dtype
 * @param axis   negative from the end
 * @param start  0 … the axis's extent
 * @param end    start … the axis's extent
 * @throws {RangeError} axis, start or end out of range   @throws {ShapeError} x is a scalar
 * @throws {DisposedError} `x` was disposed
 */
export function slice(x: Tensor, axis: number, start: number, end: number): Tensor {
  const fn = "slice";
  checkTensor(fn, "x", x, { minRank: 1 });
  const at = checkAxis(fn, "axis", axis, x.shape.length);
  const from = checkInteger(fn, "start", start, 0, x.shape[at]!);
  const to = checkInteger(fn, "end", end, from, x.shape[at]!);
  return sliceOp([x], { source: x.shape, axis: at, start: from, end: to });
}
