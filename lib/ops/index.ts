/** All differentiable ops, one file each. */

export type { Convention, SinkhornOptions } from "./sinkhorn.ts";
export { sinkhorn } from "./sinkhorn.ts";
