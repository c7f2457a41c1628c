/**
 * Floating-point operations of the ops, from their shapes: what the equations in native/ops ask for, whatever a kernel does.
 *
 * One each: + − × ÷ exp √. A sum of k products is 2k, a plain sum of k terms k − 1; comparisons, guards (eps, smallest sums) and
 * roundings to bfloat16 are not counted. What an exact backward has to compute again, because forward keeps too little, is.
 */
import { sinkhornOptions } from "./inputs.ts";

const [iters] = sinkhornOptions;

interface Sizes {
  tokens: number;
  n: number;
  channels: number;
}

/** exp(L − max) is 2n². A line's normalisation: n − 1 for the sum, 1 for its reciprocal, n products; n lines, 2·iters times. */
export const sinkhornForward = (matrices: number, n: number): number =>
  matrices * (2 * n * n + 2 * iters * n * (2 * n));

/**
 * Forward again, then each normalisation rewound: a line's ⟨g, m⟩ is 2n, the reciprocal 1, (g − dot)/sum 2n, m·sum n. At the end
 * g·m, n².
 */
export const sinkhornBackward = (matrices: number, n: number): number =>
  sinkhornForward(matrices, n) + matrices * (2 * iters * n * (5 * n + 1) + n * n);

/** Per token, after q: r q and z = α m + b of N coefficients (3N), n σ and n 2σ (a σ is 3). */
const coefficients = (n: number) => 3 * rows(n) + 7 * n;
const rows = (n: number) => n * n + 2 * n;

/** With K = nC: q = v φᵀ 2NK, Σ v² 2K, r 4 (÷ + √ ÷), coefficients, Sinkhorn, u = Σ pre x 2K. */
export const mhcPreForward = ({ tokens, n, channels }: Sizes): number =>
  tokens * (2 * rows(n) * n * channels + 4 * n * channels + 4 + coefficients(n)) + sinkhornForward(tokens, n);

/**
 * With K = nC: coefficients again; dpre = ⟨du, x⟩ 2K; through σ 3n, through 2σ 4n; Sinkhorn's backward; dα 2N, db N, dm N, r dm N,
 * ⟨dm, m⟩ 2N and 3 for the factor of x. dx: Σ res dy 2nK, pre du 2K, (r dm) φ 2NK, the term in x 2K. dφ 2NK.
 */
export const mhcPreBackward = ({ tokens, n, channels }: Sizes): number =>
  tokens * (4 * rows(n) * n * channels + (2 * n + 6) * n * channels + coefficients(n) + 7 * n + 7 * rows(n) + 3) +
  sinkhornBackward(tokens, n);

/** y is a sum of n + 1 products for every stream and channel. */
export const mhcPostForward = ({ tokens, n, channels }: Sizes): number => tokens * n * channels * 2 * (n + 1);

/** With K = nC: df 2K, dpost 2K, dres 2nK; dx is left to `mhcPreBackward`. */
export const mhcPostBackward = ({ tokens, n, channels }: Sizes): number => tokens * n * channels * (2 * n + 4);

/** The exit of one connection and the entry of the next. */
export const seamForward = (size: Sizes): number => mhcPostForward(size) + mhcPreForward(size);

export const connectionBackward = (size: Sizes): number => mhcPostBackward(size) + mhcPreBackward(size);

/** Forward and backward around a branch that computes nothing. */
export const connect = (size: Sizes): number => seamForward(size) + connectionBackward(size);

/** scale·h, once a channel. */
export const expand = ({ tokens, channels }: Sizes): number => tokens * channels;

/** A sum of n terms (n − 1) and its scale. */
export const contract = ({ tokens, n, channels }: Sizes): number => tokens * n * channels;

/** Each output is a sum of `from` products. The backward has two products of that size. */
export const linear = (tokens: number, from: number, to: number): number => 2 * tokens * from * to;

/** q·k and P·v of the pairs that are not masked. Softmax (4 a pair, beside 4·size) is not counted. */
export const attentionForward = (heads: number, length: number, size: number): number =>
  2 * attentionProduct(heads, length, size);
/** q·k again, dout·v, and dv, dq, dk. */
export const attentionBackward = (heads: number, length: number, size: number): number =>
  5 * attentionProduct(heads, length, size);
const attentionProduct = (heads: number, length: number, size: number) => heads * length * (length + 1) * size;

/** Σ x² 2C, r 4 (÷ + √ ÷), x r weight 2C. */
export const rmsNormForward = (count: number, channels: number): number => count * (4 * channels + 4);

/** h = dy weight C, x̂ = x r C, ⟨h, x̂⟩ 2C, its mean 1, r (h − x̂ mean) 3C, dweight 2C. */
export const rmsNormBackward = (count: number, channels: number): number => count * (9 * channels + 1);

/** Σ exp(l − max) 3V − 1, then log, + max, − logit, + to the mean. */
export const crossEntropyForward = (tokens: number, classes: number): number => tokens * (3 * classes + 3);

/** exp(l − logSumExp) · dloss/T: 3V, and 1 for the target. */
export const crossEntropyBackward = (tokens: number, classes: number): number => tokens * (3 * classes + 1);

/** m 3, v 4, √ · + ÷ of the update 4, decay, rate and their difference 3. */
export const adamw = (size: number): number => 14 * size;
