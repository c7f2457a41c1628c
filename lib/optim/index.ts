/** Optimizer, clipping and learning-rate schedules. */

export type { AdamWOptions, ParameterGroup } from "./adamw.ts";
export { AdamW } from "./adamw.ts";
export { clipGradNorm } from "./clip.ts";
export { decayGroups } from "./groups.ts";
export type { Schedule, ScheduleOptions } from "./schedule.ts";
export { constant, cosine, stepDecay } from "./schedule.ts";
