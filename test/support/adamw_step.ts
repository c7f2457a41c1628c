import { Tensor } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { stepFactors } from "../../lib/optim/adamw.ts";
import type { AdamWSettings } from "./oracle_matrix.ts";

/** The kernel's update of one tensor at one step, from the settings that the optimizer's users give. */
export function adamwStep(param: Tensor, grad: Tensor, m: Tensor, v: Tensor, settings: AdamWSettings, step: number) {
  const { lr, beta1, beta2, eps, weightDecay } = settings;
  const factors = Tensor.from(stepFactors({ lr, betas: [beta1, beta2], weightDecay }, step), [3], {
    device: param.device,
  });
  native.adamw(param.handle, grad.handle, m.handle, v.handle, factors.handle, 0, beta1, beta2, eps);
  factors.dispose();
}
