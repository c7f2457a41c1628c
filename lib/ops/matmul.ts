import { defineOp } from "../autograd.ts";
import type { DType } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkOptions, checkSameDevice, checkShape, checkTensor, type Keys, show, sizeOf } from "../validate.ts";

const floats: readonly DType[] = ["float32", "bfloat16"];

/** Extents of one product as the kernel takes them. */
interface Product {
  batch: number;
  m: number;
  n: number;
  k: number;
  transposeA: boolean;
  transposeB: boolean;
}

/** op(a) op(b) + bias into a new tensor. */
function product(a: Tensor, b: Tensor, bias: Tensor | undefined, shape: readonly number[], dtype: DType, p: Product) {
  const c = Tensor.empty(shape, dtype, a.device);
  native.matmul(
    a.handle,
    b.handle,
    bias?.handle ?? null,
    c.handle,
    p.batch,
    0,
    p.m,
    p.n,
    p.k,
    Number(p.transposeA),
    Number(p.transposeB),
  );
  return c;
}

const linearOp = defineOp<
  [x: Tensor, weight: Tensor, bias: Tensor | undefined],
  { rows: number; inputs: number; outputs: number }
>({
  name: "linear",
  forward(ctx, [x, weight, bias], { rows, inputs, outputs }) {
    ctx.save(x, weight, ...(bias ? [bias] : []));
    const shape = [...x.shape.slice(0, -1), outputs];
    const extents = { batch: 1, m: rows, n: outputs, k: inputs, transposeA: false, transposeB: true };
    return product(x, weight, bias, shape, x.dtype, extents);
  },
  backward(ctx, [grad], { rows, inputs, outputs }) {
    const [x, weight, bias] = ctx.saved as [Tensor, Tensor, Tensor | undefined];
    const [needsX, needsWeight, needsBias] = ctx.needs;
    const base = { batch: 1, transposeB: false };
    const gradX = needsX
      ? product(grad!, weight, undefined, x.shape, x.dtype, {
          ...base,
          m: rows,
          n: inputs,
          k: outputs,
          transposeA: false,
        })
      : undefined;
    const gradWeight = needsWeight
      ? product(grad!, x, undefined, weight.shape, weight.dtype, {
          ...base,
          m: outputs,
          n: inputs,
          k: rows,
          transposeA: true,
        })
      : undefined;
    let gradBias: Tensor | undefined;
    if (needsBias && bias) {
      gradBias = Tensor.empty(bias.shape, bias.dtype, bias.device);
      native.columnSum(grad!.handle, gradBias.handle, rows, outputs);
    }
    return [gradX, gradWeight, gradBias];
  },
});

/**
 * A linear layer.
 *
 * y = x Wᵀ + b;  dx = dy W,  dW = dyᵀ x,  db = column sums of dy.  Sums in float32, each result rounded once.
 *
 * @param x       [..., in] float32 or bfloat16
 * @param weight  [out, in] float32 or bfloat16, independent of x's dtype; its gradient has its own dtype
 * @param bias    [out] float32 or bfloat16; default none
 * @returns       [..., out] in x's dtype
 * @throws {ShapeError} extents disagree   @throws {DTypeError} an int32 tensor   @throws {DeviceError} different devices
 * @throws {DisposedError} an argument was disposed
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  const fn = "linear";
  checkTensor(fn, "x", x, { dtype: floats, minRank: 1 });
  checkTensor(fn, "weight", weight, { dtype: floats });
  const inputs = x.shape.at(-1)!;
  if (weight.shape.length !== 2 || weight.shape[1] !== inputs)
    throw new ShapeError(
      `${fn}: weight has shape [${weight.shape.join(", ")}], want [out, ${inputs}] for x [${x.shape.join(", ")}]`,
    );
  const outputs = weight.shape[0]!;
  if (bias !== undefined) {
    checkTensor(fn, "bias", bias, { dtype: floats });
    checkShape(fn, "bias", bias, [outputs]);
  }
  checkSameDevice(fn, { x, weight, bias });
  return linearOp([x, weight, bias], { rows: sizeOf(fn, "x", x.shape.slice(0, -1)), inputs, outputs });
}

const matmulOp = defineOp<[a: Tensor, b: Tensor], Product>({
  name: "matmul",
  forward(ctx, [a, b], p) {
    ctx.save(a, b);
    return product(a, b, undefined, [...a.shape.slice(0, -2), p.m, p.n], a.dtype, p);
  },
  backward(ctx, [grad], { batch, m, n, k, transposeA, transposeB }) {
    const [a, b] = ctx.saved as [Tensor, Tensor];
    const g = grad!;
    let gradA: Tensor | undefined;
    let gradB: Tensor | undefined;
    if (ctx.needs[0])
      gradA = transposeA
        ? product(b, g, undefined, a.shape, a.dtype, {
            batch,
            m: k,
            n: m,
            k: n,
            transposeA: transposeB,
            transposeB: true,
          })
        : product(g, b, undefined, a.shape, a.dtype, {
            batch,
            m,
            n: k,
            k: n,
            transposeA: false,
            transposeB: !transposeB,
          });
    if (ctx.needs[1])
      gradB = transposeB
        ? product(g, a, undefined, b.shape, b.dtype, {
            batch,
            m: n,
            n: k,
            k: m,
            transposeA: true,
            transposeB: transposeA,
          })
        : product(a, g, undefined, b.shape, b.dtype, {
            batch,
            m: k,
            n,
            k: m,
            transposeA: !transposeA,
            transposeB: false,
          });
    return [gradA, gradB];
  },
});

export interface MatmulOptions {
  /** Use aᵀ: a is [..., k, m]. Default false. */
  transposeA?: boolean;
  /** Use bᵀ: b is [..., n, k]. Default false. */
  transposeB?: boolean;
}

const optionKeys: Keys<MatmulOptions> = { transposeA: "boolean", transposeB: "boolean" };

/**
 * Batched matrix product, c = op(a) op(b) with op(x) = x or xᵀ. Sums in float32, each result rounded once.
 *
 * @param a  [..., m, k] float32 or bfloat16
 * @param b  [..., k, n] float32 or bfloat16, with a's leading axes
 * @returns  [..., m, n] in a's dtype
 * @throws {ShapeError} extents disagree   @throws {DTypeError} an int32 tensor   @throws {DeviceError} different devices
 * @throws {DisposedError} an argument was disposed   @throws {TypeError} an unknown option, or one that is no boolean
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const fn = "matmul";
  checkTensor(fn, "a", a, { dtype: floats, minRank: 2 });
  checkTensor(fn, "b", b, { dtype: floats, minRank: 2 });
  checkOptions(fn, options, optionKeys);
  const transposeA = options.transposeA ?? false;
  const transposeB = options.transposeB ?? false;
  const leading = a.shape.slice(0, -2);
  const [m, k] = (transposeA ? [a.shape.at(-1), a.shape.at(-2)] : a.shape.slice(-2)) as [number, number];
  const n = b.shape.at(transposeB ? -2 : -1)!;
  const wanted = [...leading, ...(transposeB ? [n, k] : [k, n])];
  if (b.shape.length !== wanted.length || b.shape.some((extent, i) => extent !== wanted[i]))
    throw new ShapeError(`${fn}: b is ${show(b)}, want [${wanted.join(", ")}] for a [${a.shape.join(", ")}]`);
  checkSameDevice(fn, { a, b });
  return matmulOp([a, b], { batch: sizeOf(fn, "a", leading), m, n, k, transposeA, transposeB });
}
