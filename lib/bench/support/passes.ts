/** Forward + backward of any op with a given cotangent, through the public API, for ops with a backward of several kernels. */
import { dtypeBytes } from "../../dtype.ts";
import { defineOp, Tensor, valueAndGrad } from "../../index.ts";
import type { FloatType } from "./inputs.ts";

/**
 * A "loss" whose gradient by y is the given tensor: what `y.backward(dy)` is elsewhere. Its value means nothing and costs
 * nothing; a real one, Σ y·dy, would add a pass over y that the op is not to blame for.
 */
export const withCotangent = defineOp<[y: Tensor], Tensor>({
  name: "withCotangent",
  forward: (_context, [y]) => Tensor.zeros([], { device: y.device }),
  backward: (_context, _grads, gradY) => [gradY],
});

/** A function that computes fn's gradients by `params` for the cotangent `gradY` and frees them. */
export function pass(fn: () => Tensor, params: readonly Tensor[], gradY: Tensor): () => void {
  return () => {
    const [loss, grads] = valueAndGrad(() => withCotangent([fn()], gradY), params);
    for (const tensor of [loss, ...grads]) tensor.dispose();
  };
}

/** Of y = x wᵀ: x and w read, y written. */
export function linearBytes(tokens: number, from: number, to: number, dtype: FloatType): number {
  return (tokens * from + to * from + tokens * to) * dtypeBytes[dtype];
}
