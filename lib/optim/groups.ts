/** Which parameters decay: matrices do; biases, norm weights, and α and b of connections do not. */
import type { Module, Parameter } from "../nn/module.ts";
import { checkNumber } from "../validate.ts";
import type { ParameterGroup } from "./adamw.ts";

/**
 * Groups for `AdamW` with weight decay only where a parameter's `decay` is true.
 *
 * A group is a run of neighbours, so that all groups one after the other keep the order of `model.parameters()`, and with it
 * that of the gradients.
 *
 * @param weightDecay  λ ≥ 0 of those that decay   @throws {RangeError}
 */
export function decayGroups(model: Module, weightDecay: number): ParameterGroup[] {
  checkNumber("decayGroups", "weightDecay", weightDecay, 0);
  const groups: { params: Parameter[]; weightDecay: number }[] = [];
  for (const parameter of model.parameters()) {
    const decay = parameter.decay ? weightDecay : 0;
    const last = groups.at(-1);
    if (last && last.params[0]!.decay === parameter.decay) last.params.push(parameter);
    else groups.push({ params: [parameter], weightDecay: decay });
  }
  return groups;
}
