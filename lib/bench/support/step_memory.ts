/** Child process: runs a few training steps of one residual and reports its peak memory, which no other model has touched. */
import { memory, setDevice, setThreads, synchronize } from "../../index.ts";
import { gptStep, type Residual, stepSizes } from "./gpt_step.ts";

export interface StepMemory {
  /** Highest bytes of live tensors: weights, moments, gradients, activations. */
  peakBytes: number;
  /** Highest resident set of the whole process, Node and the module loader included. */
  peakRss: number;
  /** Resident set before the model was built. */
  baseRss: number;
}

const [residual, threads, device, sizes] = process.argv.slice(2);
setDevice(device!);
setThreads(Number(threads));
await synchronize();
const baseRss = process.memoryUsage.rss();
const step = gptStep(residual as Residual, stepSizes[sizes as keyof typeof stepSizes]);
for (let i = 0; i < 4; i++) {
  step();
  await synchronize();
}
const result: StepMemory = {
  peakBytes: memory().peakBytes,
  peakRss: process.resourceUsage().maxRSS * 1024,
  baseRss,
};
process.send?.(result);
process.disconnect?.();
