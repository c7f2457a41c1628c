import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { type Coefficients, type ConnectionParameters, type ConnectionSettings, emptyCoefficients } from "./mhc_pre.ts";

/**
 * @internal Runs the seam kernel: the exit of one connection and the entry of the next, in one pass over the streams.
 *
 * y_i = Σ_j res_ij x_j + post_i · output, then everything `mhcPre` computes of y; the same bits as `mhcPost` and `mhcPre`.
 */
export function seamForward(
  x: Tensor,
  output: Tensor,
  ending: { post: Tensor; res: Tensor },
  parameters: ConnectionParameters,
  settings: ConnectionSettings,
): { y: Tensor; next: Coefficients } {
  const y = Tensor.empty(x.shape, x.dtype, x.device);
  const next = emptyCoefficients(x, settings);
  native.seamForward(
    x.handle,
    output.handle,
    ending.post.handle,
    ending.res.handle,
    parameters.phi.handle,
    parameters.alpha.handle,
    parameters.bias.handle,
    y.handle,
    next.input.handle,
    next.pre.handle,
    next.post.handle,
    next.res.handle,
    next.q.handle,
    next.r.handle,
    settings.tokens,
    settings.n,
    settings.channels,
    ...settings.options,
  );
  return { y, next };
}
