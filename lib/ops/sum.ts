import { defineOp } from "../autograd.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkAxis, checkOptions, checkTensor, type Keys } from "../validate.ts";
import { around } from "./layout.ts";

export interface ReduceOptions {
  /** The axis to sum over, negative from the end; default all of them. */
  axis?: number;
}

const optionKeys: Keys<ReduceOptions> = { axis: "checked" };

interface Reduction {
  /** Of x. */
  source: readonly number[];
  /** Of the result. */
  shape: readonly number[];
  outer: number;
  count: number;
  inner: number;
  divisor: number;
}

const reduceOp = defineOp<[Tensor], Reduction>({
  name: "sum",
  forward(_, [x], { shape, outer, count, inner, divisor }) {
    const out = Tensor.empty(shape, x.dtype, x.device);
    native.reduceAxis(x.handle, null, out.handle, outer, count, inner, divisor);
    return out;
  },
  backward(_, [grad], { source, outer, count, inner, divisor }) {
    const out = Tensor.empty(source, grad!.dtype, grad!.device);
    native.broadcastAxis(grad!.handle, out.handle, outer, count, inner, divisor);
    return [out];
  },
});

/** @internal sum (or mean) over one axis or all. */
export function reduce(fn: string, x: Tensor, options: ReduceOptions, mean: boolean): Tensor {
  checkTensor(fn, "x", x, { dtype: ["float32", "bfloat16"] });
  checkOptions(fn, options, optionKeys);
  const all = options.axis === undefined;
  const axis = all ? 0 : checkAxis(fn, "options.axis", options.axis, x.shape.length);
  const { outer, count, inner } = all ? { outer: 1, count: x.size, inner: 1 } : around(x.shape, axis);
  const shape = all ? [] : x.shape.filter((_, i) => i !== axis);
  return reduceOp([x], { source: x.shape, shape, outer, count, inner, divisor: mean ? count : 1 });
}

/**
 * Sum over one axis, which disappears, or over all elements (result shape []). Added in float32 in a fixed order, so the bits do
 * not depend on the number of threads; the gradient repeats over the axis.
 *
 * @param x  float32 or bfloat16, any shape
 * @returns  x's dtype, rounded once; 0 where nothing is summed
 * @throws {RangeError} axis not an integer from −rank to rank − 1   @throws {DTypeError} x is int32
 * @throws {DisposedError} `x` was disposed   @throws {TypeError} an unknown option
 */
export function sum(x: Tensor, options: ReduceOptions = {}): Tensor {
  return reduce("sum", x, options, false);
}
