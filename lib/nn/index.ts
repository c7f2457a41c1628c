/** Layers and networks: pure composition of ops. */

export type { AttentionOptions } from "./attention.ts";
export { CausalSelfAttention } from "./attention.ts";
export { Embedding } from "./embedding.ts";
export type { GPTOptions } from "./gpt.ts";
export { Block, GPT } from "./gpt.ts";
export type {
  Coefficients,
  ConnectionKind,
  ConnectionName,
  ConnectionStep,
  HyperConnectionOptions,
  ResidualOptions,
} from "./hyper_connection.ts";
export { HyperConnection } from "./hyper_connection.ts";
export type { LinearOptions } from "./linear.ts";
export { Linear } from "./linear.ts";
export type { MLPOptions } from "./mlp.ts";
export { MLP } from "./mlp.ts";
export { Module, Parameter } from "./module.ts";
export type { NormOptions } from "./norm.ts";
export { LayerNorm, RMSNorm } from "./norm.ts";
