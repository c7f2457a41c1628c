import { defineOp } from "../autograd.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkNumber, checkOptions } from "../validate.ts";
import { checkNorm, emptyLike, type NormOptions, normKeys } from "./rms_norm.ts";

const layerNormOp = defineOp<
  [Tensor, Tensor | undefined, Tensor | undefined],
  { rows: number; channels: number; eps: number; bias: Tensor | undefined }
>({
  name: "layerNorm",
  forward(ctx, [x, weight, bias], { rows, channels, eps }) {
    const y = Tensor.empty(x.shape, x.dtype, x.device);
    const mean = Tensor.empty([rows], "float32", x.device);
    const inverse = Tensor.empty([rows], "float32", x.device);
    native.layerNormForward(
      x.handle,
      weight?.handle ?? null,
      bias?.handle ?? null,
      y.handle,
      mean.handle,
      inverse.handle,
      rows,
      channels,
      eps,
    );
    ctx.save(x, mean, inverse, ...(weight ? [weight] : []));
    return y;
  },
  backward(ctx, [grad], { rows, channels, bias }) {
    const [x, mean, inverse, weight] = ctx.saved;
    const gradX = emptyLike(x, ctx.needs[0]);
    const gradWeight = emptyLike(weight, ctx.needs[1]);
    const gradBias = emptyLike(bias, ctx.needs[2]);
    native.layerNormBackward(
      x!.handle,
      weight?.handle ?? null,
      grad!.handle,
      mean!.handle,
      inverse!.handle,
      gradX?.handle ?? null,
      gradWeight?.handle ?? null,
      gradBias?.handle ?? null,
      rows,
      channels,
    );
    return [gradX, gradWeight, gradBias];
  },
});

/**
 * Normalises each row: y = (x − mean) / √(variance + ε) · weight + bias (arXiv:1607.06450). Sums in float32.
 *
 * @param x       [..., C] float32 or bfloat16
 * @param weight  [C] float32 or x's dtype; default none
 * @param bias    [C] float32 or x's dtype; default none
 * @returns       x's shape and dtype
 * @throws {ShapeError} x is a scalar, a parameter is not [C]   @throws {DTypeError} a dtype not listed
 * @throws {RangeError} eps negative or not finite              @throws {DisposedError} an argument was disposed
 * @throws {TypeError} an unknown option
 */
export function layerNorm(x: Tensor, weight?: Tensor, bias?: Tensor, options: NormOptions = {}): Tensor {
  const rows = checkNorm("layerNorm", x, { weight, bias });
  checkOptions("layerNorm", options, normKeys);
  const eps = checkNumber("layerNorm", "options.eps", options.eps ?? 1e-5, 0);
  return layerNormOp([x, weight, bias], { rows, channels: x.shape.at(-1)!, eps, bias });
}
