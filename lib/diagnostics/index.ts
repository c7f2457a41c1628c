/** What hyper-connections do to signals and gradients. */

export type { GainReport, Gains } from "./gains.ts";
export { composite, gainReport, gains, lineSums } from "./gains.ts";
export type { Recording } from "./recorder.ts";
export { record } from "./recorder.ts";
