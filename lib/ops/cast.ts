import { defineOp } from "../autograd.ts";
import { checkDType, type DType } from "../dtype.ts";
import type { Tensor } from "../tensor.ts";
import { checkTensor } from "../validate.ts";

const castOp = defineOp<[Tensor], { dtype: DType; from: DType }>({
  name: "cast",
  forward: (_, [x], { dtype }) => x.to(dtype),
  backward: (_, [grad], { dtype, from }) => [dtype === "int32" || from === "int32" ? undefined : grad!.to(from)],
});

/**
 * A copy in another dtype; the gradient is cast back. To bfloat16: rounded to nearest even. To int32: truncated, clamped to
 * its range, NaN becomes 0, and no gradient passes.
 *
 * @param x      any shape and dtype
 * @param dtype  "float32", "bfloat16" or "int32"
 * @returns      same shape; shares memory with `x` when the dtype is the same
 * @throws {DTypeError}    dtype is no dtype
 * @throws {DisposedError} `x` was disposed
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  checkTensor("cast", "x", x);
  return castOp([x], { dtype: checkDType("cast", "dtype", dtype), from: x.dtype });
}
