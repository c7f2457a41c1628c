import type { Tensor } from "../tensor.ts";
import { type ReduceOptions, reduce } from "./sum.ts";

/**
 * Mean over one axis, which disappears, or over all elements (result shape []). Like `sum`, divided by the number of elements.
 *
 * @param x  float32 or bfloat16, any shape
 * @returns  x's dtype, rounded once; NaN where there is nothing to average
 * @throws {RangeError} axis not an integer from −rank to rank − 1   @throws {DTypeError} x is int32
 * @throws {DisposedError} `x` was disposed   @throws {TypeError} an unknown option
 */
export function mean(x: Tensor, options: ReduceOptions = {}): Tensor {
  return reduce("mean", x, options, true);
}
