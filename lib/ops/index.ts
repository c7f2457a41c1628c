/** All differentiable ops, one file each. */

export type { Convention, SinkhornOptions } from "./sinkhorn.ts";
export { sinkhorn } from "./sinkhorn.ts";
export { connect } from "./connect.ts";
export type { ConnectOptions } from "./connect.ts";
export { contract } from "./contract.ts";
export { expand } from "./expand.ts";
export { mhcPost } from "./mhc_post.ts";
export { mhcPre } from "./mhc_pre.ts";
export type { ConnectionOptions, ConnectionParameters } from "./mhc_pre.ts";
