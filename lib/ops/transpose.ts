import { defineOp } from "../autograd.ts";
import { ArgumentTypeError, ShapeError } from "../errors.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkAxis, checkTensor, show } from "../validate.ts";
import { stridesOf } from "./layout.ts";

function permuted(x: Tensor, permutation: readonly number[]): Tensor {
  const shape = permutation.map((axis) => x.shape[axis]!);
  const strides = stridesOf(x.shape);
  const out = Tensor.empty(shape, x.dtype, x.device);
  native.stridedCopy(
    x.handle,
    out.handle,
    shape,
    permutation.map((axis) => strides[axis]!),
    0,
    stridesOf(shape),
    0,
  );
  return out;
}

const transposeOp = defineOp<[Tensor], { permutation: readonly number[] }>({
  name: "transpose",
  forward: (_, [x], { permutation }) => permuted(x, permutation),
  backward: (_, [grad], { permutation }) => [
    permuted(
      grad!,
      permutation.map((_, axis) => permutation.indexOf(axis)),
    ),
  ],
});

/**
 * Reorders the axes: axis i of the result is axis permutation[i] of x.
 *
 * @param x            any dtype, at most 8 axes
 * @param permutation  each axis once, negative from the end; default swaps the last two
 * @throws {ShapeError} an axis is missing or twice, x has too few or too many axes   @throws {RangeError} an axis x lacks
 * @throws {TypeError} permutation is no array                                        @throws {DisposedError} `x` was disposed
 */
export function transpose(x: Tensor, permutation?: readonly number[]): Tensor {
  const fn = "transpose";
  const rank = checkTensor(fn, "x", x, { minRank: permutation === undefined ? 2 : 0 }).shape.length;
  if (rank > 8) throw new ShapeError(`${fn}: x has ${rank} axes, want at most 8`);
  const axes = permutation ?? [...x.shape.keys()].map((axis) => (axis < rank - 2 ? axis : 2 * rank - 3 - axis));
  if (!Array.isArray(axes)) throw new ArgumentTypeError(`${fn}: permutation is ${show(axes)}, want an array of axes`);
  const order = axes.map((axis, i) => checkAxis(fn, `permutation[${i}]`, axis, rank));
  if (order.length !== rank || new Set(order).size !== rank)
    throw new ShapeError(`${fn}: permutation is [${axes.join(", ")}], want each of the ${rank} axes once`);
  return transposeOp([x], { permutation: order });
}
