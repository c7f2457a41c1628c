import { defineOp } from "../autograd.ts";
import { ArgumentTypeError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { checkAxis, checkSameDevice, checkSameDType, checkShape, checkTensor, show } from "../validate.ts";
import { joined, part } from "./layout.ts";

const concatOp = defineOp<Tensor[], { axis: number; extents: readonly number[] }>({
  name: "concat",
  forward: (_, tensors, { axis }) => joined(tensors, axis),
  backward(ctx, [grad], { axis, extents }) {
    let at = 0;
    return extents.map((extent, i) => {
      const start = at;
      at += extent;
      return ctx.needs[i] ? part(grad!, axis, start, at) : undefined;
    });
  },
});

/**
 * Tensors one after the other along an axis.
 *
 * @param tensors  at least one; one dtype; equal shapes except along the axis
 * @param axis     default 0; negative from the end
 * @throws {TypeError} tensors is no array, or empty   @throws {ShapeError} other extents differ, or scalars
 * @throws {DTypeError} dtypes differ   @throws {RangeError} axis out of range   @throws {DisposedError} one was disposed
 */
export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  const fn = "concat";
  if (!Array.isArray(tensors) || tensors.length === 0)
    throw new ArgumentTypeError(`${fn}: tensors is ${show(tensors)}, want an array of at least one tensor`);
  const first = checkTensor(fn, "tensors[0]", tensors[0], { minRank: 1 });
  const at = checkAxis(fn, "axis", axis, first.shape.length);
  for (const [i, tensor] of tensors.entries()) {
    const name = `tensors[${i}]`;
    checkTensor(fn, name, tensor, { minRank: 1 });
    checkSameDType(fn, name, tensor, first.dtype, "tensors[0]");
    const want = first.shape.map((d, k) => (k === at ? (tensor.shape[k] ?? d) : d));
    checkShape(fn, name, tensor, want);
    checkSameDevice(fn, { "tensors[0]": first, [name]: tensor });
  }
  return concatOp([...tensors], { axis: at, extents: tensors.map((t) => t.shape[at]!) });
}
