import { defineOp } from "../autograd.ts";
import { ShapeError } from "../errors.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkInteger, checkNumber, checkOneOf, checkOptions, checkTensor, type Keys, sizeOf } from "../validate.ts";

/** Which published form of the projection; method table "Conventions". */
export type Convention = "paper" | "deepseek-v4";

export interface SinkhornOptions {
  /** Iterations, 1 … 64; default 20. */
  iters?: number;
  /** Added to every sum; default 0 for "paper", 1e-6 for "deepseek-v4". */
  eps?: number;
  /** Default "paper". */
  convention?: Convention;
}

const optionKeys: Keys<SinkhornOptions> = { iters: "checked", eps: "checked", convention: "checked" };

/** @internal Options as the kernels take them. */
export interface SinkhornSettings {
  iters: number;
  eps: number;
  convention: number;
}

/** @internal Fills in and checks the options. */
export function sinkhornSettings(
  fn: string,
  options: SinkhornOptions,
  name = "options",
  epsName = "eps",
): SinkhornSettings {
  const form = checkOneOf(fn, `${name}.convention`, options.convention ?? "paper", ["paper", "deepseek-v4"]);
  return {
    iters: checkInteger(fn, `${name}.iters`, options.iters ?? 20, 1, 64),
    eps: checkNumber(fn, `${name}.${epsName}`, options.eps ?? (form === "paper" ? 0 : 1e-6), 0, 1),
    convention: form === "paper" ? 0 : 1,
  };
}

const sinkhornOp = defineOp<[Tensor], SinkhornSettings & { tokens: number; n: number }>({
  name: "sinkhorn",
  forward(ctx, [logits], { tokens, n, iters, eps, convention }) {
    ctx.save(logits);
    const res = Tensor.empty(logits.shape, "float32", logits.device);
    native.sinkhornForward(logits.handle, res.handle, tokens, n, iters, eps, convention);
    return res;
  },
  backward(ctx, [grad], { tokens, n, iters, eps, convention }) {
    const [logits] = ctx.saved;
    const out = Tensor.empty(logits!.shape, "float32", logits!.device);
    native.sinkhornBackward(logits!.handle, grad!.handle, out.handle, tokens, n, iters, eps, convention);
    return [out];
  },
});

/**
 * Projects each token's n × n matrix towards the doubly stochastic matrices.
 *
 * M⁰ = exp(L − the largest of each column);  M ← rows(columns(M)), `iters` times.  mHC (arXiv:2512.24880) eq. 9; backward in
 * native/ops/sinkhorn.h. Off by at most 1e-6 + 2⁻²³ max |L| at ε = 0, forward and backward, whatever the logits' spread.
 *
 * @param logits  [..., n, n] float32, n = 1, 2, 4 or 8; row = destination stream. −∞ is an entry of 0 without gradient; NaN, +∞ and
 *                a line of nothing but −∞ make the whole matrix NaN
 * @returns       same shape; entries in [0, 1]; rows sum to 1 up to rounding, columns converge with `iters`
 * @throws {RangeError}    iters not an integer from 1 to 64, eps not in [0, 1]
 * @throws {ShapeError}    last two axes not a supported square
 * @throws {DTypeError}    logits not float32   @throws {TypeError} an unknown option or convention
 * @throws {DisposedError} `logits` was disposed
 */
export function sinkhorn(logits: Tensor, options: SinkhornOptions = {}): Tensor {
  const fn = "sinkhorn";
  checkTensor(fn, "logits", logits, { dtype: ["float32"], minRank: 2 });
  const n = logits.shape.at(-1)!;
  if (logits.shape.at(-2) !== n || ![1, 2, 4, 8].includes(n))
    throw new ShapeError(
      `${fn}: logits has shape [${logits.shape.join(", ")}], want [..., n, n] with n = 1, 2, 4 or 8`,
    );
  checkOptions(fn, options, optionKeys);
  const tokens = sizeOf(fn, "logits", logits.shape.slice(0, -2));
  return sinkhornOp([logits], { ...sinkhornSettings(fn, options), tokens, n });
}
