/** birkhoff: hyper-connections for Node.js. Public exports only. */

export type { OpContext, OpDefinition } from "./autograd.ts";
export { defineOp, noGrad, valueAndGrad } from "./autograd.ts";
export * as data from "./data/index.ts";
export type { DeviceInfo } from "./device.ts";
export {
  devices,
  memory,
  resetPeakMemory,
  setDevice,
  setMemoryBudget,
  setThreads,
  synchronize,
  systemInfo,
} from "./device.ts";
export * as diagnostics from "./diagnostics/index.ts";
export type { DType } from "./dtype.ts";
export * from "./errors.ts";
export * as nn from "./nn/index.ts";
export * as ops from "./ops/index.ts";
export * as optim from "./optim/index.ts";
export { setSeed } from "./random.ts";
export type { TensorOptions } from "./tensor.ts";
export { keep, Tensor, tidy } from "./tensor.ts";
export * as train from "./train/index.ts";
