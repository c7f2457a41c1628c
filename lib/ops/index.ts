/** All differentiable ops, one file each. */

export { add } from "./add.ts";
export { cast } from "./cast.ts";
export { concat } from "./concat.ts";
export { gelu } from "./gelu.ts";
export { layerNorm } from "./layer_norm.ts";
export { mean } from "./mean.ts";
export { mul } from "./mul.ts";
export { reshape } from "./reshape.ts";
export type { NormOptions } from "./rms_norm.ts";
export { rmsNorm } from "./rms_norm.ts";
export { scale } from "./scale.ts";
export { silu } from "./silu.ts";
export type { Convention, SinkhornOptions } from "./sinkhorn.ts";
export { sinkhorn } from "./sinkhorn.ts";
export { connect } from "./connect.ts";
export type { ConnectOptions } from "./connect.ts";
export { contract } from "./contract.ts";
export { expand } from "./expand.ts";
export { mhcPost } from "./mhc_post.ts";
export { mhcPre } from "./mhc_pre.ts";
export type { ConnectionOptions, ConnectionParameters } from "./mhc_pre.ts";
export { slice } from "./slice.ts";
export { split } from "./split.ts";
export type { ReduceOptions } from "./sum.ts";
export { sum } from "./sum.ts";
export { swiglu } from "./swiglu.ts";
export { transpose } from "./transpose.ts";
