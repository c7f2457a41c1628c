import { activeTape, noGrad, runNode, Tape, withTape } from "../autograd.ts";
import { ArgumentTypeError } from "../errors.ts";
import { adopt, collect, rejectPromise } from "../scope.ts";
import type { Tensor } from "../tensor.ts";
import { show } from "../validate.ts";
import { mhcPostBackward, mhcPostForward } from "./mhc_post.ts";
import {
  type ConnectionOptions,
  type ConnectionParameters,
  checkBranchOutput,
  connectionSettings,
  mhcPreBackward,
  mhcPreForward,
} from "./mhc_pre.ts";

export interface ConnectOptions extends ConnectionOptions {
  /** Called during forward with the coefficients, for diagnostics; they live as long as any other intermediate. */
  onCoefficients?: (coefficients: { pre: Tensor; post: Tensor; res: Tensor }) => void;
}

/**
 * One manifold-constrained hyper-connection around a branch, as one differentiable node.
 *
 * y_i = Σ_j res_ij x_j + post_i F(Σ_j pre_j x_j), coefficients as in `mhcPre`.  mHC (arXiv:2512.24880) eq. 3, 7–9, 14–19.
 * Backward runs prepare → branch → finish: the four terms of dx are summed in float32 and rounded once.
 *
 * @param x           [..., n, C] float32 or bfloat16, n = 1, 2, 4 or 8, C ≥ 1
 * @param parameters  phi [N, n·C], alpha [3], bias [N], float32; N = n² + 2n
 * @param branch      F: u [..., C] → [..., C] in x's dtype; called once, synchronously; may use any ops and parameters
 * @returns           [..., n, C] in x's dtype
 * @throws {ShapeError | DTypeError | DeviceError | DisposedError} a tensor, or what the branch returns, does not fit
 * @throws {RangeError} a bad option
 */
export function connect(
  x: Tensor,
  parameters: ConnectionParameters,
  branch: (input: Tensor) => Tensor,
  options: ConnectOptions = {},
): Tensor {
  const fn = "connect";
  const settings = connectionSettings(fn, x, parameters, options);
  if (typeof branch !== "function") throw new ArgumentTypeError(`${fn}: branch is ${show(branch)}, want a function`);
  const { phi, alpha, bias } = parameters;
  const outer = activeTape();

  const { result: c, created } = collect(() => noGrad(() => mhcPreForward(x, parameters, settings)));
  for (const tensor of created) adopt(tensor);
  options.onCoefficients?.({ pre: c.pre, post: c.post, res: c.res });

  // The branch records on a tape of its own, so that this node decides when it runs backward.
  const inner = outer && new Tape(outer.tracked);
  const records = outer !== undefined && [x, phi, alpha, bias].some((t) => outer.tracked.has(t));
  if (records) outer.tracked.add(c.input);
  const output = withTape(inner, () => branch(c.input));
  rejectPromise(`${fn}: branch`, output);
  checkBranchOutput(fn, "the branch's result", x, output);
  const y = noGrad(() => mhcPostForward(x, output, c.post, c.res, settings));

  if (!outer || !inner || (!records && !outer.tracked.has(output))) {
    for (const tensor of [c.pre, c.post, c.res, c.q, c.r]) if (!outer && !tensor.kept) tensor.dispose();
    return y;
  }
  outer.tracked.add(y);
  outer.nodes.push({
    outputs: [y],
    owned: [c.input, c.pre, c.post, c.res, c.q, c.r],
    run(grads) {
      const gradY = grads.get(y)!;
      const { result: prepared, created: temporary } = collect(() =>
        mhcPostBackward(x, output, c.post, c.res, gradY, false, settings),
      );
      for (const tensor of temporary) if (tensor !== prepared.output) adopt(tensor);
      adopt(prepared.output);
      grads.add(output, prepared.output);
      inner.backward(grads);
      const gradInput = grads.take(c.input);
      const args = [x, phi, alpha, bias] as const;
      const needs = args.map((t) => outer.tracked.has(t));
      if (needs.includes(true))
        runNode(
          {
            name: fn,
            forward: () => y,
            backward: () =>
              mhcPreBackward(
                x,
                parameters,
                c,
                { input: gradInput, post: prepared.post, res: prepared.res, output: gradY },
                settings,
              ),
          },
          { needs, saved: [], save: () => {} },
          args,
          undefined,
          [],
          grads,
        );
      gradInput?.dispose();
      prepared.post.dispose();
      prepared.res.dispose();
    },
  });
  return y;
}
