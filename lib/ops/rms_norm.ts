import { defineOp } from "../autograd.ts";
import { DTypeError } from "../errors.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkNumber, checkOptions, checkSameDevice, checkShape, checkTensor, type Keys } from "../validate.ts";
import { product } from "./layout.ts";

export interface NormOptions {
  /** Added to the mean square or variance; default 1e-6 for rmsNorm, 1e-5 for layerNorm. */
  eps?: number;
}

/** @internal */
export const normKeys: Keys<NormOptions> = { eps: "checked" };

/** @internal Checks x and its parameters; returns the row count. */
export function checkNorm(fn: string, x: Tensor, parameters: Record<string, Tensor | undefined>): number {
  checkTensor(fn, "x", x, { dtype: ["float32", "bfloat16"], minRank: 1 });
  for (const [name, parameter] of Object.entries(parameters)) {
    if (parameter === undefined) continue;
    checkTensor(fn, name, parameter, { dtype: ["float32", "bfloat16"] });
    if (parameter.dtype !== "float32" && parameter.dtype !== x.dtype)
      throw new DTypeError(`${fn}: ${name} is ${parameter.dtype}, want float32 or x's ${x.dtype}`);
    checkShape(fn, name, parameter, [x.shape.at(-1)!]);
  }
  checkSameDevice(fn, { x, ...parameters });
  return product(x.shape.slice(0, -1));
}

/** @internal An uninitialised tensor like another one, where it is wanted. */
export function emptyLike(tensor: Tensor | undefined, wanted: boolean | undefined): Tensor | undefined {
  return tensor && wanted ? Tensor.empty(tensor.shape, tensor.dtype, tensor.device) : undefined;
}

const rmsNormOp = defineOp<[Tensor, Tensor | undefined], { rows: number; channels: number; eps: number }>({
  name: "rmsNorm",
  forward(ctx, [x, weight], { rows, channels, eps }) {
    const y = Tensor.empty(x.shape, x.dtype, x.device);
    const inverse = Tensor.empty([rows], "float32", x.device);
    native.rmsNormForward(x.handle, weight?.handle ?? null, y.handle, inverse.handle, rows, channels, eps);
    ctx.save(x, inverse, ...(weight ? [weight] : []));
    return y;
  },
  backward(ctx, [grad], { rows, channels }) {
    const [x, inverse, weight] = ctx.saved;
    const gradX = emptyLike(x, ctx.needs[0]);
    const gradWeight = emptyLike(weight, ctx.needs[1]);
    native.rmsNormBackward(
      x!.handle,
      weight?.handle ?? null,
      grad!.handle,
      inverse!.handle,
      gradX?.handle ?? null,
      gradWeight?.handle ?? null,
      rows,
      channels,
    );
    return [gradX, gradWeight];
  },
});

/**
 * Divides each row by its root mean square: y = x / √(mean x² + ε) · weight (arXiv:1910.07467). Sums in float32.
 *
 * @param x       [..., C] float32 or bfloat16
 * @param weight  [C] float32 or x's dtype; default none
 * @returns       x's shape and dtype
 * @throws {ShapeError} x is a scalar, weight is not [C]   @throws {DTypeError} a dtype not listed
 * @throws {RangeError} eps negative or not finite         @throws {DisposedError} an argument was disposed
 * @throws {TypeError} an unknown option
 */
export function rmsNorm(x: Tensor, weight?: Tensor, options: NormOptions = {}): Tensor {
  const rows = checkNorm("rmsNorm", x, { weight });
  checkOptions("rmsNorm", options, normKeys);
  const eps = checkNumber("rmsNorm", "options.eps", options.eps ?? 1e-6, 0);
  return rmsNormOp([x, weight], { rows, channels: x.shape.at(-1)!, eps });
}
