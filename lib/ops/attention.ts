import { defineOp } from "../autograd.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkNumber, checkOptions, checkSameDevice, checkShape, checkTensor, type Keys, sizeOf } from "../validate.ts";

export interface AttentionOptions {
  /** Position i sees positions 0 … i only. Default false. */
  causal?: boolean;
  /** Factor on q·k; any finite value, default 1 / √D. */
  scale?: number;
}

const optionKeys: Keys<AttentionOptions> = { causal: "boolean", scale: "checked" };

interface Settings {
  heads: number;
  length: number;
  size: number;
  causal: number;
  scale: number;
}

const attentionOp = defineOp<[q: Tensor, k: Tensor, v: Tensor], Settings>({
  name: "attention",
  forward(ctx, [q, k, v], { heads, length, size, causal, scale }) {
    const out = Tensor.empty(q.shape, q.dtype, q.device);
    const logSumExp = Tensor.empty([heads, length], "float32", q.device);
    native.attentionForward(
      q.handle,
      k.handle,
      v.handle,
      out.handle,
      logSumExp.handle,
      heads,
      length,
      size,
      causal,
      scale,
    );
    ctx.save(q, k, v, out, logSumExp);
    return out;
  },
  backward(ctx, [grad], { heads, length, size, causal, scale }) {
    const [q, k, v, out, logSumExp] = ctx.saved as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const grads = [q, k, v].map((t, i) => (ctx.needs[i] ? Tensor.empty(t.shape, t.dtype, t.device) : undefined));
    const [gradQ, gradK, gradV] = grads.map((g) => g?.handle ?? null);
    native.attentionBackward(
      q.handle,
      k.handle,
      v.handle,
      out.handle,
      logSumExp.handle,
      grad!.handle,
      gradQ!,
      gradK!,
      gradV!,
      heads,
      length,
      size,
      causal,
      scale,
    );
    return grads;
  },
});

/**
 * Scaled dot-product attention, softmax(scale · q kᵀ) v, without the T × T matrix in memory: forward keeps one float32 per
 * row (its log-sum-exp), backward computes the matrix again, block by block (FlashAttention, arXiv:2205.14135).
 *
 * @param q  [..., T, D] float32 or bfloat16; D from 1 to 256; the leading axes are batch and heads
 * @param k  like q: same shape, same dtype
 * @param v  like q: same shape, same dtype
 * @returns  [..., T, D] in q's dtype
 * @throws {ShapeError}  shapes disagree, or D is out of range   @throws {DTypeError}    dtypes disagree, or int32
 * @throws {RangeError}  scale is not finite                     @throws {TypeError}     causal is no boolean, an unknown option
 * @throws {DeviceError} different devices                       @throws {DisposedError} an argument was disposed
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const fn = "attention";
  checkTensor(fn, "q", q, { dtype: ["float32", "bfloat16"], minRank: 2 });
  for (const [name, tensor] of Object.entries({ k, v })) {
    checkTensor(fn, name, tensor);
    if (tensor.dtype !== q.dtype) throw new DTypeError(`${fn}: ${name} is ${tensor.dtype}, want ${q.dtype} like q`);
    checkShape(fn, name, tensor, q.shape);
  }
  const [length, size] = q.shape.slice(-2) as [number, number];
  if (size < 1 || size > 256)
    throw new ShapeError(`${fn}: q has shape [${q.shape.join(", ")}], want a last axis from 1 to 256`);
  checkOptions(fn, options, optionKeys);
  const causal = options.causal ?? false;
  const scale = checkNumber(fn, "options.scale", options.scale ?? 1 / Math.sqrt(size));
  checkSameDevice(fn, { q, k, v });
  const heads = sizeOf(fn, "q", q.shape.slice(0, -2));
  return attentionOp([q, k, v], { heads, length, size, causal: Number(causal), scale });
}
