/** All differentiable ops, one file each. */

export type { AttentionOptions } from "./attention.ts";
export { attention } from "./attention.ts";
export { crossEntropy } from "./cross_entropy.ts";
export type { DropoutOptions } from "./dropout.ts";
export { dropout } from "./dropout.ts";
export { embedding } from "./embedding.ts";
export type { MatmulOptions } from "./matmul.ts";
export { linear, matmul } from "./matmul.ts";
export type { Convention, SinkhornOptions } from "./sinkhorn.ts";
export { sinkhorn } from "./sinkhorn.ts";
export { softmax } from "./softmax.ts";
