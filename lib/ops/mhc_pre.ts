import { defineOp, type OpContext } from "../autograd.ts";
import { ArgumentTypeError, DTypeError, ShapeError } from "../errors.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import {
  checkNumber,
  checkOneOf,
  checkOptions,
  checkSameDevice,
  checkShape,
  checkTensor,
  type Keys,
  show,
  sizeOf,
} from "../validate.ts";
import { type Convention, sinkhornSettings } from "./sinkhorn.ts";

/** The learned part of a connection: one projection, three scales, one bias. Rows and groups ordered pre | post | res. */
export interface ConnectionParameters {
  /** [N, K] float32; N = n² + 2n, K = n·C. */
  phi: Tensor;
  /** [3] float32: the scales of pre, post and res. */
  alpha: Tensor;
  /** [N] float32. */
  bias: Tensor;
}

export interface ConnectionOptions {
  /** Default "paper". */
  convention?: Convention;
  /** Sinkhorn iterations, 1 … 64; default 20. */
  iters?: number;
  /** ε of the Sinkhorn sums; default 0 for "paper", 1e-6 for "deepseek-v4". */
  sinkhornEps?: number;
  /** ε of the RMS norm of the streams; default 1e-6. */
  normEps?: number;
  /**
   * Precision of the projection q = vφᵀ on a GPU; default "float32", in which products have φ to 24 bits. "tf32" is the faster one:
   * φ to 16 bits, so that |Δq| ≤ 2⁻¹⁶ Σ|v·φ| (TF32 itself: 2⁻¹⁰); sums are float32 in both. The CPU computes both in float32.
   */
  projection?: "float32" | "tf32";
}

/** @internal */
export const connectionKeys: Keys<ConnectionOptions> = {
  convention: "checked",
  iters: "checked",
  sinkhornEps: "checked",
  normEps: "checked",
  projection: "checked",
};

/** @internal Sizes and options of a connection, as the kernels take them. */
export interface ConnectionSettings {
  tokens: number;
  n: number;
  channels: number;
  coefficients: number;
  head: boolean;
  options: KernelOptions;
}

type KernelOptions = [normEps: number, iters: number, sinkhornEps: number, convention: number, projection: number];

/** @internal Fills in and checks the options, whose names are checked already. */
export function kernelOptions(fn: string, options: ConnectionOptions, name = "options"): KernelOptions {
  const projection = checkOneOf(fn, `${name}.projection`, options.projection ?? "float32", ["float32", "tf32"]);
  const { iters, sinkhornEps, convention, normEps } = options;
  const sinkhorn = sinkhornSettings(fn, { iters, eps: sinkhornEps, convention }, name, "sinkhornEps");
  return [
    checkNumber(fn, `${name}.normEps`, normEps ?? 1e-6, 0, 1),
    sinkhorn.iters,
    sinkhorn.eps,
    sinkhorn.convention,
    projection === "tf32" ? 1 : 0,
  ];
}

/** @internal The last two axes, [n, C]. */
export function checkStreams(fn: string, x: Tensor): [n: number, channels: number] {
  checkTensor(fn, "x", x, { dtype: ["float32", "bfloat16"], minRank: 2 });
  const [n, channels] = x.shape.slice(-2) as [number, number];
  if (![1, 2, 4, 8].includes(n) || channels < 1)
    throw new ShapeError(
      `${fn}: x has shape [${x.shape.join(", ")}], want [..., n, C] with n = 1, 2, 4 or 8 and C ≥ 1`,
    );
  return [n, channels];
}

/** @internal Checks streams and parameters. `head`: phi [n, K], alpha [1], bias [n]. */
export function connectionSettings(
  fn: string,
  x: Tensor,
  parameters: ConnectionParameters,
  options: ConnectionOptions,
  head = false,
): ConnectionSettings {
  const [n, channels] = checkStreams(fn, x);
  if (typeof parameters !== "object" || parameters === null)
    throw new ArgumentTypeError(`${fn}: parameters is ${show(parameters)}, want { phi, alpha, bias }`);
  const coefficients = head ? n : n * n + 2 * n;
  const { phi, alpha, bias } = parameters;
  for (const [name, tensor] of Object.entries({ phi, alpha, bias }))
    checkTensor(fn, name, tensor, { dtype: ["float32"] });
  checkShape(fn, "phi", phi, [coefficients, n * channels]);
  checkShape(fn, "alpha", alpha, [head ? 1 : 3]);
  checkShape(fn, "bias", bias, [coefficients]);
  checkSameDevice(fn, { x, phi, alpha, bias });
  return {
    tokens: sizeOf(fn, "x", x.shape.slice(0, -2)),
    n,
    channels,
    coefficients,
    head,
    options: kernelOptions(fn, options),
  };
}

/** @internal Everything `mhcPre` computes: q and r are kept for backward, which rebuilds the coefficients from them. */
export interface Coefficients {
  input: Tensor;
  pre: Tensor;
  post: Tensor;
  res: Tensor;
  q: Tensor;
  r: Tensor;
}

/** @internal Coefficients of streams like x, not yet written. For the head, post and res are empty. */
export function emptyCoefficients(x: Tensor, settings: ConnectionSettings): Coefficients {
  const { n, channels, coefficients, head } = settings;
  const leading = x.shape.slice(0, -2);
  const coefficient = (...shape: number[]) => Tensor.empty([...leading, ...shape], "float32", x.device);
  return {
    input: Tensor.empty([...leading, channels], x.dtype, x.device),
    pre: coefficient(n),
    post: head ? Tensor.empty([0], "float32", x.device) : coefficient(n),
    res: head ? Tensor.empty([0], "float32", x.device) : coefficient(n, n),
    q: coefficient(coefficients),
    r: coefficient(),
  };
}

/** @internal Runs the forward kernel. */
export function mhcPreForward(x: Tensor, parameters: ConnectionParameters, settings: ConnectionSettings): Coefficients {
  const { tokens, n, channels, head, options } = settings;
  const c = emptyCoefficients(x, settings);
  native.mhcPreForward(
    x.handle,
    parameters.phi.handle,
    parameters.alpha.handle,
    parameters.bias.handle,
    c.input.handle,
    c.pre.handle,
    head ? null : c.post.handle,
    head ? null : c.res.handle,
    c.q.handle,
    c.r.handle,
    tokens,
    n,
    channels,
    ...options,
  );
  return c;
}

/** @internal Gradients that reach the coefficients; `output` is dy of a whole connection. */
export interface MhcPreGradients {
  input?: Tensor;
  pre?: Tensor;
  post?: Tensor;
  res?: Tensor;
  output?: Tensor;
}

/** @internal Runs the finish kernel: [dx, dphi, dalpha, dbias]. */
export function mhcPreBackward(
  x: Tensor,
  parameters: ConnectionParameters,
  saved: { q: Tensor; r: Tensor },
  gradients: MhcPreGradients,
  settings: ConnectionSettings,
): [Tensor, Tensor, Tensor, Tensor] {
  const { phi, alpha, bias } = parameters;
  const like = (t: Tensor) => Tensor.empty(t.shape, t.dtype, t.device);
  const out: [Tensor, Tensor, Tensor, Tensor] = [like(x), like(phi), like(alpha), like(bias)];
  native.mhcPreBackward(
    x.handle,
    phi.handle,
    alpha.handle,
    bias.handle,
    saved.q.handle,
    saved.r.handle,
    gradients.input?.handle ?? null,
    gradients.pre?.handle ?? null,
    gradients.post?.handle ?? null,
    gradients.res?.handle ?? null,
    gradients.output?.handle ?? null,
    out[0].handle,
    out[1].handle,
    out[2].handle,
    out[3].handle,
    settings.tokens,
    settings.n,
    settings.channels,
    settings.head ? 1 : 0,
    ...settings.options,
  );
  return out;
}

type Arguments = [x: Tensor, phi: Tensor, alpha: Tensor, bias: Tensor];

function saveForBackward(ctx: OpContext, [x, phi, alpha, bias]: Arguments, c: Coefficients): void {
  ctx.save(x, phi, alpha, bias, c.q, c.r);
}

function backward(ctx: OpContext, gradients: MhcPreGradients, settings: ConnectionSettings): Tensor[] {
  const [x, phi, alpha, bias, q, r] = ctx.saved as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
  return mhcPreBackward(x, { phi, alpha, bias }, { q, r }, gradients, settings);
}

const mhcPreOp = defineOp<Arguments, ConnectionSettings, Tensor[]>({
  name: "mhcPre",
  forward(ctx, args, settings) {
    const [x, phi, alpha, bias] = args;
    const c = mhcPreForward(x, { phi, alpha, bias }, settings);
    saveForBackward(ctx, args, c);
    return [c.input, c.pre, c.post, c.res];
  },
  backward: (ctx, [input, pre, post, res], settings) => backward(ctx, { input, pre, post, res }, settings),
});

/** @internal The learned contraction: the branch input of a connection that has pre alone. */
export const headOp = defineOp<Arguments, ConnectionSettings>({
  name: "contract",
  forward(ctx, args, settings) {
    const [x, phi, alpha, bias] = args;
    const c = mhcPreForward(x, { phi, alpha, bias }, settings);
    saveForBackward(ctx, args, c);
    return c.input;
  },
  backward: (ctx, [input], settings) => backward(ctx, { input }, settings),
});

/**
 * The entry of a connection: coefficients and branch input, in one read of the streams.
 *
 * r = (Σ v²/K + ε)^(−½), z = α ⊙ r·vφᵀ + b;  pre = σ(z_pre), post = 2σ(z_post), res = Sinkhorn(z_res);  input = Σ_i pre_i x_i.
 * mHC (arXiv:2512.24880) eq. 14–19. Use `connect` where you can: its backward rounds dx once and reads x less often.
 *
 * @param x           [..., n, C] float32 or bfloat16, n = 1, 2, 4 or 8, C ≥ 1
 * @param parameters  phi [N, n·C], alpha [3], bias [N], float32; N = n² + 2n
 * @returns           input [..., C] in x's dtype; pre, post [..., n] and res [..., n, n] float32
 * @throws {ShapeError | DTypeError | DeviceError | DisposedError} a tensor does not fit   @throws {RangeError} a bad option
 * @throws {TypeError} an unknown option, or an argument of another type
 */
export function mhcPre(
  x: Tensor,
  parameters: ConnectionParameters,
  options: ConnectionOptions = {},
): { input: Tensor; pre: Tensor; post: Tensor; res: Tensor } {
  checkOptions("mhcPre", options, connectionKeys);
  const settings = connectionSettings("mhcPre", x, parameters, options);
  const [input, pre, post, res] = mhcPreOp(
    [x, parameters.phi, parameters.alpha, parameters.bias],
    settings,
  ) as Arguments;
  return { input, pre, post, res };
}

/** @internal */
export function checkBranchOutput(fn: string, argument: string, x: Tensor, output: unknown): Tensor {
  const tensor = checkTensor(fn, argument, output);
  if (tensor.dtype !== x.dtype) throw new DTypeError(`${fn}: ${argument} is ${tensor.dtype}, want x's ${x.dtype}`);
  checkShape(fn, argument, tensor, [...x.shape.slice(0, -2), x.shape.at(-1)!]);
  return tensor;
}
