import { activeTape, noGrad, runNode, Tape, type TapeNode, withTape } from "../autograd.ts";
import { ArgumentRangeError, ArgumentTypeError } from "../errors.ts";
import { adopt, collect, rejectPromise } from "../scope.ts";
import type { Tensor } from "../tensor.ts";
import { checkOptions, type Keys, show } from "../validate.ts";
import { mhcPostBackward, mhcPostForward } from "./mhc_post.ts";
import {
  type Coefficients,
  type ConnectionOptions,
  type ConnectionParameters,
  type ConnectionSettings,
  checkBranchOutput,
  checkStreams,
  connectionKeys,
  connectionSettings,
  mhcPreBackward,
  mhcPreForward,
} from "./mhc_pre.ts";
import { seamForward } from "./seam.ts";

export interface ConnectOptions extends ConnectionOptions {
  /** Called during forward with the coefficients, for diagnostics; they live as long as any other intermediate. */
  onCoefficients?: (coefficients: { pre: Tensor; post: Tensor; res: Tensor }) => void;
}

const optionKeys: Keys<ConnectOptions> = { ...connectionKeys, onCoefficients: "function" };

/** One connection of a chain: the arguments of `connect` but for the streams. */
export interface ChainedConnection {
  parameters: ConnectionParameters;
  branch: (input: Tensor) => Tensor;
  options?: ConnectOptions;
}

const chainedKeys: Keys<ChainedConnection> = { parameters: "checked", branch: "function", options: "checked" };

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
 * @throws {RangeError} a bad option   @throws {TypeError} an unknown option, or an argument of another type
 */
export function connect(
  x: Tensor,
  parameters: ConnectionParameters,
  branch: (input: Tensor) => Tensor,
  options: ConnectOptions = {},
): Tensor {
  return runChain(x, [linkOf("connect", x, { parameters, branch, options })]);
}

/**
 * Connections one after the other: x ← connect(x, …) for each, with the same bits and the same gradients.
 *
 * Between two branches the exit of a connection and the entry of the next are one kernel (the seam), which need not read the
 * streams between them back from memory. Without gradients these streams are freed as the chain passes on.
 *
 * @param x            [..., n, C] float32 or bfloat16, n = 1, 2, 4 or 8, C ≥ 1
 * @param connections  at least one; parameters, branch and options as for `connect`, each with options of its own
 * @returns            [..., n, C] in x's dtype
 * @throws {ShapeError | DTypeError | DeviceError | DisposedError} a tensor, or what a branch returns, does not fit
 * @throws {RangeError} no connections, or a bad option   @throws {TypeError} something is not what `connect` takes
 */
export function connectChain(x: Tensor, connections: readonly ChainedConnection[]): Tensor {
  const fn = "connectChain";
  checkStreams(fn, x);
  if (!Array.isArray(connections))
    throw new ArgumentTypeError(`${fn}: connections is ${show(connections)}, want an array of { parameters, branch }`);
  if (connections.length === 0) throw new ArgumentRangeError(`${fn}: connections is [], want at least one`);
  return runChain(
    x,
    connections.map((connection: ChainedConnection, i) => {
      checkOptions(fn, connection, chainedKeys, `connections[${i}]`);
      return linkOf(`${fn}: connections[${i}]`, x, connection);
    }),
  );
}

interface Link {
  /** Stands in error messages. */
  fn: string;
  parameters: ConnectionParameters;
  branch: (input: Tensor) => Tensor;
  onCoefficients: ConnectOptions["onCoefficients"];
  settings: ConnectionSettings;
}

function linkOf(fn: string, x: Tensor, connection: ChainedConnection): Link {
  const { parameters, branch, options = {} } = connection;
  checkOptions(fn, options, optionKeys);
  const settings = connectionSettings(fn, x, parameters, options);
  if (typeof branch !== "function") throw new ArgumentTypeError(`${fn}: branch is ${show(branch)}, want a function`);
  return { fn, parameters, branch, onCoefficients: options.onCoefficients, settings };
}

/** Runs a kernel unrecorded; what it made belongs to the enclosing scope, unless it fails. */
function unrecorded<T>(forward: () => T): T {
  const { result, created } = collect(() => noGrad(forward));
  for (const tensor of created) adopt(tensor);
  return result;
}

function runChain(x: Tensor, links: readonly Link[]): Tensor {
  const outer = activeTape();
  let streams = x;
  let c = unrecorded(() => mhcPreForward(x, links[0]!.parameters, links[0]!.settings));
  for (const [i, link] of links.entries()) {
    const { fn, parameters, settings } = link;
    const { phi, alpha, bias } = parameters;
    const [before, current, following] = [streams, c, links[i + 1]];
    link.onCoefficients?.({ pre: current.pre, post: current.post, res: current.res });

    // The branch records on a tape of its own, so that the connection's node decides when it runs backward.
    const inner = outer && new Tape(outer.tracked);
    const records = outer !== undefined && [before, phi, alpha, bias].some((t) => outer.tracked.has(t));
    if (records) outer.tracked.add(current.input);
    const output = withTape(inner, () => link.branch(current.input));
    rejectPromise(`${fn}: branch`, output);
    checkBranchOutput(fn, "the branch's result", x, output);
    if (following) {
      const seam = () => seamForward(before, output, current, following.parameters, following.settings);
      ({ y: streams, next: c } = unrecorded(seam));
    } else streams = noGrad(() => mhcPostForward(before, output, current.post, current.res, settings));

    if (outer && inner && (records || outer.tracked.has(output))) {
      outer.tracked.add(streams);
      outer.nodes.push(nodeOf(link, { x: before, c: current, output, y: streams }, outer, inner));
      continue;
    }
    if (!outer)
      for (const tensor of [current.pre, current.post, current.res, current.q, current.r])
        if (!tensor.kept) tensor.dispose();
    // Nobody else has seen the streams between two connections.
    if (i > 0) before.dispose();
  }
  return streams;
}

/** One connection on the tape: prepare → branch → finish. */
function nodeOf(
  { fn, parameters, settings }: Link,
  { x, c, output, y }: { x: Tensor; c: Coefficients; output: Tensor; y: Tensor },
  outer: Tape,
  inner: Tape,
): TapeNode {
  return {
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
      const args = [x, parameters.phi, parameters.alpha, parameters.bias] as const;
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
  };
}
