/** @internal Shared by the ops that move elements: strides of contiguous shapes, and axes as [outer, count, inner]. */
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";

/** Product of extents. */
export const product = (extents: readonly number[]): number => extents.reduce((a, b) => a * b, 1);

/** Row-major strides, in elements. */
export function stridesOf(shape: readonly number[]): number[] {
  return shape.map((_, axis) => product(shape.slice(axis + 1)));
}

/** Extents before, at and after an axis. */
export function around(shape: readonly number[], axis: number): { outer: number; count: number; inner: number } {
  return { outer: product(shape.slice(0, axis)), count: shape[axis]!, inner: product(shape.slice(axis + 1)) };
}

/** Sum of `b`-sized blocks of grad (times factor): the gradient of a `b` that was repeated over leading axes. */
export function sumOfRepeats(grad: Tensor, factor: Tensor | undefined, shape: readonly number[]): Tensor {
  const out = Tensor.empty(shape, grad.dtype, grad.device);
  const count = out.size === 0 ? 0 : grad.size / out.size;
  // A scalar's sum is over one contiguous row.
  native.reduceAxis(grad.handle, factor?.handle ?? null, out.handle, 1, count, out.size, 1);
  return out;
}

/** Copies elements start … of an axis between a whole tensor and a part of it. */
export function copyPart(whole: Tensor, part: Tensor, axis: number, start: number, into: "whole" | "part"): void {
  const { outer, count, inner } = around(part.shape, axis);
  const wide = whole.shape[axis]! * inner;
  const narrow = count * inner;
  const shape = [outer, narrow];
  if (into === "part") native.stridedCopy(whole.handle, part.handle, shape, [wide, 1], start * inner, [narrow, 1], 0);
  else native.stridedCopy(part.handle, whole.handle, shape, [narrow, 1], 0, [wide, 1], start * inner);
}

/** The parts side by side along an axis; unrecorded. */
export function joined(parts: readonly Tensor[], axis: number): Tensor {
  const first = parts[0]!;
  const shape = [...first.shape];
  shape[axis] = parts.reduce((total, part) => total + part.shape[axis]!, 0);
  const out = Tensor.empty(shape, first.dtype, first.device);
  let at = 0;
  for (const part of parts) {
    copyPart(out, part, axis, at, "whole");
    at += part.shape[axis]!;
  }
  return out;
}

/** Elements start … end − 1 of an axis; a view where they are contiguous; unrecorded. */
export function part(x: Tensor, axis: number, start: number, end: number): Tensor {
  const shape = [...x.shape];
  shape[axis] = end - start;
  const { outer, inner } = around(x.shape, axis);
  if (outer === 1) return x.view(shape, start * inner);
  const out = Tensor.empty(shape, x.dtype, x.device);
  copyPart(x, out, axis, start, "part");
  return out;
}
