/** One connection with the branch F(u) = u, forward and backward with a given cotangent, through the public API. */
import { keep, ops, type Tensor, valueAndGrad } from "../../index.ts";
import type { ConnectionParameters } from "../../ops/mhc_pre.ts";
import { withCotangent } from "./passes.ts";

/** y, and the gradients of x, phi, alpha and bias; all yours to dispose. */
export function connectionPass(
  x: Tensor,
  parameters: ConnectionParameters,
  gradY: Tensor,
): [y: Tensor, ...grads: Tensor[]] {
  let y!: Tensor;
  const [loss, grads] = valueAndGrad(() => {
    y = keep(ops.connect(x, parameters, (u) => u));
    return withCotangent([y], gradY);
  }, [x, parameters.phi, parameters.alpha, parameters.bias]);
  loss.dispose();
  return [y, ...grads];
}
