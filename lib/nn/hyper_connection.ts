/**
 * One residual connection around a branch, of any kind, under one interface: x ← connect(x, branch).
 *
 * A kind is a row of `kinds` below; what it needs is a function from options to a `ConnectionKind`.
 *   plain   y = x + F(x), no streams, no parameters
 *   mhc     y_i = Σ_j res_ij x_j + post_i F(Σ_i pre_i x_i), res doubly stochastic (mHC, arXiv:2512.24880, eq. 3, 7–9)
 */
import { ArgumentRangeError } from "../errors.ts";
import * as ops from "../ops/index.ts";
import { connectionKeys, kernelOptions } from "../ops/mhc_pre.ts";
import type { Convention } from "../ops/sinkhorn.ts";
import { Tensor } from "../tensor.ts";
import { checkInteger, checkNumber, checkOneOf, checkOptions, type Keys, show } from "../validate.ts";
import { Module, normal, Parameter } from "./module.ts";

export type ConnectionName = "plain" | "mhc";

/** What a connection computed for one forward pass: pre [..., n], post [..., n], res [..., n, n], float32. */
export interface Coefficients {
  pre: Tensor;
  post: Tensor;
  res: Tensor;
}

export interface ResidualOptions {
  kind: ConnectionName;
  /** n: 1, 2, 4 or 8; default 4 for "mhc", always 1 for "plain". */
  streams?: number;
  /** "residual" (default): training starts near the plain residual. "uniform": b = 0, that is pre ½, post 1, res 1/n. */
  init?: "residual" | "uniform";
  /** Standard deviation of φ's initial values; default 0. */
  phiStd?: number;
  /** Default "paper". */
  convention?: Convention;
  /** Sinkhorn iterations, 1 … 64; default 20. */
  iters?: number;
  /** Added to Sinkhorn's sums; default 0 ("paper") or 1e-6 ("deepseek-v4"). */
  sinkhornEps?: number;
  /** Default 1e-6. */
  normEps?: number;
  /** Accuracy of φ's product on tensor cores; default "float32". */
  projection?: "float32" | "tf32";
}

export interface HyperConnectionOptions extends ResidualOptions {
  /** C, channels of a stream. */
  dim: number;
  /** Index of the connection, from 0: stream (layer mod n) starts as the branch's main input and output. Default 0. */
  layer?: number;
  device?: string;
}

const plainKeys: Keys<Pick<ResidualOptions, "kind" | "streams">> = { kind: "checked", streams: "checked" };

const residualKeys: Keys<ResidualOptions> = {
  ...plainKeys,
  init: "checked",
  phiStd: "checked",
  ...connectionKeys,
};

const ownKeys: Keys<Omit<HyperConnectionOptions, keyof ResidualOptions>> = {
  dim: "checked",
  layer: "checked",
  device: "string",
};

/**
 * @internal Checks the options of a residual, which differ by kind; `own` are those that the caller has beside.
 *
 * @param name  of the object, for messages
 */
export function checkResidual(fn: string, options: ResidualOptions, name: string, own: object = {}): void {
  checkOptions(fn, options, { ...residualKeys, ...own }, name);
  const kind = checkOneOf(fn, `${name}.kind`, options.kind, Object.keys(kinds) as ConnectionName[]);
  const streams = options.streams ?? (kind === "plain" ? 1 : 4);
  if (kind === "plain") {
    if (streams !== 1)
      throw new ArgumentRangeError(`${fn}: ${name}.streams is ${show(streams)}, want 1 for kind "plain"`);
    checkOptions(fn, options as object, { ...plainKeys, ...own }, name, ' of kind "plain"');
    return;
  }
  if (![1, 2, 4, 8].includes(streams))
    throw new ArgumentRangeError(`${fn}: ${name}.streams is ${show(streams)}, want 1, 2, 4 or 8 for kind "mhc"`);
  checkOneOf(fn, `${name}.init`, options.init ?? "residual", ["residual", "uniform"]);
  checkNumber(fn, `${name}.phiStd`, options.phiStd ?? 0, 0);
  kernelOptions(fn, options, name);
}

/** What a kind of connection provides. */
export interface ConnectionKind {
  /** n; 1 means that x has no stream axis. */
  readonly streams: number;
  /** Parameters by name. */
  readonly parameters: Readonly<Record<string, Parameter>>;
  /** @param x [..., n, C], or [..., C] for a kind without a stream axis */
  connect(x: Tensor, branch: (u: Tensor) => Tensor, onCoefficients?: (c: Coefficients) => void): Tensor;
  /** The same as a part of `ops.connectChain`; absent for a kind that has no kernel for what lies between two connections. */
  link?(branch: (u: Tensor) => Tensor, onCoefficients?: (c: Coefficients) => void): ops.ChainedConnection;
  /** [..., C] → x */
  expand(h: Tensor): Tensor;
  /** x → [..., C] */
  contract(x: Tensor): Tensor;
}

function plain(): ConnectionKind {
  return {
    streams: 1,
    parameters: {},
    connect: (x, branch) => ops.add(x, branch(x)),
    expand: (h) => h,
    contract: (x) => x,
  };
}

/** b [n² + 2n], ordered pre | post | res (method: Initialisation). */
function initialBias(n: number, layer: number, init: "residual" | "uniform"): Float32Array {
  const b = new Float32Array(n * n + 2 * n);
  if (init === "uniform") return b;
  b.fill(-1, 0, 2 * n);
  b[layer % n] = 1;
  b[n + (layer % n)] = 1;
  b.fill(-8, 2 * n);
  for (let i = 0; i < n; i++) b[2 * n + i * n + i] = 0;
  return b;
}

function mhc(options: HyperConnectionOptions): ConnectionKind {
  const { streams: n = 4, layer = 0, init = "residual", phiStd = 0 } = options;
  const { dim, device, convention, iters, sinkhornEps, normEps, projection } = options;
  const parameters = {
    phi: new Parameter(normal([n * n + 2 * n, n * dim], phiStd, device)),
    alpha: new Parameter(Tensor.full([3], 0.01, { device }), { decay: false }),
    bias: new Parameter(Tensor.from(initialBias(n, layer, init), undefined, { device }), { decay: false }),
  };
  const settings = { convention, iters, sinkhornEps, normEps, projection };
  return {
    streams: n,
    parameters,
    connect: (x, branch, onCoefficients) => ops.connect(x, parameters, branch, { ...settings, onCoefficients }),
    link: (branch, onCoefficients) => ({ parameters, branch, options: { ...settings, onCoefficients } }),
    expand: (h) => ops.expand(h, n),
    // The mean, not the sum: streams start as copies of h and res as nearly I, so the mean keeps the magnitude of the plain
    // residual, which bfloat16 and the eps of the norm that follows notice; otherwise that norm cancels the factor n.
    contract: (x) => ops.contract(x, "mean"),
  };
}

/** One of several connections to run in a row. */
export interface ConnectionStep {
  connection: HyperConnection;
  /** F: [..., C] → [..., C]; run once. */
  branch: (u: Tensor) => Tensor;
}

const kinds: Record<ConnectionName, (options: HyperConnectionOptions) => ConnectionKind> = { plain, mhc };

/**
 * A residual connection with its parameters: none for "plain"; φ [n²+2n, nC], α [3], b [n²+2n] for "mhc".
 *
 * At the start (init "residual") res is I up to 1e-3 and every stream holds the embedding plus all branch outputs, each times
 * post (1.46 on the branch's own stream, 0.54 on the others; 0.77 on average), so a pre-norm branch sees the plain residual's
 * input up to that weighting.
 */
export class HyperConnection extends Module {
  readonly kind: ConnectionName;
  readonly dim: number;
  /** Called with the coefficients of each forward pass; they live as long as any intermediate. */
  onCoefficients: ((c: Coefficients) => void) | undefined;
  readonly #kind: ConnectionKind;

  /** @throws {TypeError} an unknown kind, init or option   @throws {RangeError} streams, dim or layer out of range */
  constructor(options: HyperConnectionOptions) {
    super();
    const fn = "HyperConnection";
    checkResidual(fn, options, "options", ownKeys);
    checkInteger(fn, "options.layer", options.layer ?? 0, 0);
    this.kind = options.kind;
    this.dim = checkInteger(fn, "options.dim", options.dim, 1);
    this.#kind = kinds[this.kind](options);
  }

  /** n; 1 for the plain residual. */
  get streams(): number {
    return this.#kind.streams;
  }

  protected override members(): Iterable<[string, unknown]> {
    return Object.entries(this.#kind.parameters);
  }

  /**
   * @param x       [..., n, C] ("plain": [..., C])
   * @param branch  F: [..., C] → [..., C]; run once
   * @returns       the shape of x
   */
  connect(x: Tensor, branch: (u: Tensor) => Tensor): Tensor {
    return this.#kind.connect(x, branch, this.onCoefficients);
  }

  /**
   * x ← connection.connect(x, branch) for each step in turn, with the same bits; as one `ops.connectChain` where the kind has
   * it ("mhc"), which passes over the streams less often.
   *
   * @param x  [..., n, C] ("plain": [..., C])   @returns the shape of x
   */
  static connectAll(x: Tensor, steps: readonly ConnectionStep[]): Tensor {
    const links = steps.map(({ connection: c, branch }) => c.#kind.link?.(branch, c.onCoefficients));
    if (links.length > 0 && links.every((link) => link !== undefined)) return ops.connectChain(x, links);
    return steps.reduce((y, { connection, branch }) => connection.connect(y, branch), x);
  }

  /** Network start: copies h [..., C] into n streams [..., n, C]; h itself for "plain". */
  expandStreams(h: Tensor): Tensor {
    return this.#kind.expand(h);
  }

  /** Network end: the mean of the streams, [..., n, C] → [..., C]; x itself for "plain". */
  contractStreams(x: Tensor): Tensor {
    return this.#kind.contract(x);
  }
}
