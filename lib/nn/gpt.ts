/** A GPT whose residual connections are any kind of hyper-connection: x ← connect(x, u ↦ F(norm u)), twice per block. */
import type { DType } from "../dtype.ts";
import { ArgumentRangeError, ShapeError } from "../errors.ts";
import * as ops from "../ops/index.ts";
import type { Tensor } from "../tensor.ts";
import {
  checkInteger,
  checkNumber,
  checkOneOf,
  checkOptions,
  checkShape,
  checkTensor,
  type Keys,
} from "../validate.ts";
import { CausalSelfAttention } from "./attention.ts";
import { Embedding } from "./embedding.ts";
import { type ConnectionStep, checkResidual, HyperConnection, type ResidualOptions } from "./hyper_connection.ts";
import { Linear } from "./linear.ts";
import { MLP } from "./mlp.ts";
import { cast, dropout, Module } from "./module.ts";
import { LayerNorm, RMSNorm } from "./norm.ts";

export interface GPTOptions {
  /** Number of tokens of the vocabulary. */
  vocab: number;
  /** Channels; a multiple of `heads`. */
  dim: number;
  /** Blocks of attention and MLP. */
  layers: number;
  heads: number;
  /** Longest sequence. */
  context: number;
  /** Default { kind: "mhc", streams: 4 }. */
  residual?: ResidualOptions;
  /** Default "rms". */
  norm?: "rms" | "layer";
  /** Default "gelu". */
  activation?: "gelu" | "swiglu";
  /** Biases of linear layers and LayerNorms; default false. */
  bias?: boolean;
  /** In [0, 1), of embeddings and branch outputs, only while gradients are recorded; default 0. */
  dropout?: number;
  /** The output layer shares the token embedding; default true. */
  tieWeights?: boolean;
  /** Of activations; parameters are always float32. Default "float32". */
  dtype?: "float32" | "bfloat16";
  device?: string;
}

const optionKeys: Keys<GPTOptions> = {
  vocab: "checked",
  dim: "checked",
  layers: "checked",
  heads: "checked",
  context: "checked",
  residual: "checked",
  norm: "checked",
  activation: "checked",
  bias: "boolean",
  dropout: "checked",
  tieWeights: "boolean",
  dtype: "checked",
  device: "string",
};

type ResolvedOptions = GPTOptions & Required<Omit<GPTOptions, "device">>;

/** One attention and one MLP, each behind a norm and inside a connection. */
export class Block extends Module {
  readonly attnConnection: HyperConnection;
  readonly attnNorm: RMSNorm | LayerNorm;
  readonly attn: CausalSelfAttention;
  readonly mlpConnection: HyperConnection;
  readonly mlpNorm: RMSNorm | LayerNorm;
  readonly mlp: MLP;

  /**
   * @param options  of the whole network   @param index  of the block; its connections are numbers 2·index and 2·index + 1
   * @throws {RangeError} a size or index out of range   @throws {TypeError} as `GPT`
   */
  constructor(options: GPTOptions, index: number) {
    super();
    const resolved = resolve("Block", options);
    checkInteger("Block", "index", index, 0);
    const { dim, heads, layers, bias, dropout: p, device, activation, residual } = resolved;
    // GPT-2: the residual sums 2·layers branch outputs, so each starts smaller.
    const projStd = 0.02 / Math.sqrt(2 * layers);
    this.attnConnection = new HyperConnection({ ...residual, dim, device, layer: 2 * index });
    this.attnNorm = makeNorm(resolved);
    this.attn = new CausalSelfAttention({ dim, heads, bias, dropout: p, projStd, device });
    this.mlpConnection = new HyperConnection({ ...residual, dim, device, layer: 2 * index + 1 });
    this.mlpNorm = makeNorm(resolved);
    this.mlp = new MLP({ dim, bias, dropout: p, projStd, device, activation });
  }

  /** Attention, then MLP, for `HyperConnection.connectAll`. */
  steps(): ConnectionStep[] {
    return [
      { connection: this.attnConnection, branch: (u) => this.attn.forward(this.attnNorm.forward(u)) },
      { connection: this.mlpConnection, branch: (u) => this.mlp.forward(this.mlpNorm.forward(u)) },
    ];
  }

  /** @param x [B, T, n, C] ("plain": [B, T, C])   @returns the same shape */
  forward(x: Tensor): Tensor {
    return HyperConnection.connectAll(x, this.steps());
  }
}

function makeNorm({ norm, dim, bias, device }: ResolvedOptions): RMSNorm | LayerNorm {
  return norm === "rms" ? new RMSNorm(dim, { device }) : new LayerNorm(dim, { bias, device });
}

/**
 * A decoder-only transformer: token and learned position embeddings, streams expanded after them and averaged before the last
 * norm, pre-norm blocks, GPT-2 initialisation (std 0.02; output projections 0.02/√(2·layers)).
 *
 * The streams are averaged because they start as copies of the embedding: then the network starts as the plain one, up to the
 * weights post of the branch outputs (0.77 on average), and a pre-norm branch cancels the sum of pre. See `HyperConnection`.
 */
export class GPT extends Module {
  /** The options, defaults filled in; enough to build the same network again. */
  readonly options: Readonly<ResolvedOptions>;
  readonly tokenEmbedding: Embedding;
  readonly positionEmbedding: Embedding;
  readonly blocks: readonly Block[];
  readonly finalNorm: RMSNorm | LayerNorm;
  /** Absent with tied weights. */
  readonly head?: Linear;

  /** @throws {RangeError} a size out of range   @throws {TypeError} an unknown option, kind, norm or dtype; a flag that is no boolean */
  constructor(options: GPTOptions) {
    super();
    this.options = resolve("GPT", options);
    const { vocab, dim, context, layers, tieWeights, bias, device } = this.options;
    this.tokenEmbedding = new Embedding(vocab, dim, { device });
    this.positionEmbedding = new Embedding(context, dim, { device });
    this.blocks = Array.from({ length: layers }, (_, i) => new Block(this.options, i));
    this.finalNorm = makeNorm(this.options);
    if (!tieWeights) this.head = new Linear(dim, vocab, { bias, device });
  }

  /** All connections in order: 2·block is the attention's, 2·block + 1 the MLP's. */
  connections(): HyperConnection[] {
    return this.blocks.flatMap((block) => [block.attnConnection, block.mlpConnection]);
  }

  /** The network without its output layer. @param tokens [B, T] int32, T ≤ context   @returns [B, T, dim] */
  hidden(tokens: Tensor): Tensor {
    const fn = "GPT.forward";
    checkTensor(fn, "tokens", tokens, { dtype: ["int32"] });
    const length = tokens.shape[1] ?? 0;
    if (tokens.shape.length !== 2 || length < 1 || length > this.options.context)
      throw new ShapeError(
        `${fn}: tokens has shape [${tokens.shape.join(", ")}], want [B, T] with T from 1 to context ${this.options.context}`,
      );
    const positions = ops.slice(this.positionEmbedding.weight, 0, 0, length);
    const embedded = cast(ops.add(this.tokenEmbedding.forward(tokens), positions), this.options.dtype as DType);
    const ends = this.blocks[0]!.attnConnection;
    const x = ends.expandStreams(dropout(embedded, this.options.dropout));
    const steps = this.blocks.flatMap((block) => block.steps());
    return this.finalNorm.forward(ends.contractStreams(HyperConnection.connectAll(x, steps)));
  }

  /** Logits of `hidden`'s result. @param h [..., dim]   @returns [..., vocab] */
  logits(h: Tensor): Tensor {
    return this.head ? this.head.forward(h) : ops.linear(h, cast(this.tokenEmbedding.weight, h.dtype));
  }

  /** @param tokens [B, T] int32 in 0 … vocab − 1, T ≤ context   @returns logits [B, T, vocab]   @throws {ShapeError} */
  forward(tokens: Tensor): Tensor {
    return this.logits(this.hidden(tokens));
  }

  /** Mean cross-entropy in nats. @param targets [B, T] int32: the token after each of `tokens`   @returns [] float32 */
  loss(tokens: Tensor, targets: Tensor): Tensor {
    checkTensor("GPT.loss", "targets", targets, { dtype: ["int32"] });
    checkTensor("GPT.loss", "tokens", tokens, { dtype: ["int32"] });
    checkShape("GPT.loss", "targets", targets, tokens.shape);
    return ops.crossEntropy(this.forward(tokens), targets);
  }
}

function resolve(fn: string, options: GPTOptions): ResolvedOptions {
  checkOptions(fn, options, optionKeys);
  const residual = options.residual ?? { kind: "mhc", streams: 4 };
  checkResidual(fn, residual, "options.residual");
  const dim = checkInteger(fn, "options.dim", options.dim, 1);
  const heads = checkInteger(fn, "options.heads", options.heads, 1);
  if (dim % heads !== 0) throw new ArgumentRangeError(`${fn}: options.heads is ${heads}, want a divisor of dim ${dim}`);
  return {
    vocab: checkInteger(fn, "options.vocab", options.vocab, 1, 2 ** 31 - 1),
    dim,
    layers: checkInteger(fn, "options.layers", options.layers, 1),
    heads,
    context: checkInteger(fn, "options.context", options.context, 1),
    residual,
    norm: checkOneOf(fn, "options.norm", options.norm ?? "rms", ["rms", "layer"]),
    activation: checkOneOf(fn, "options.activation", options.activation ?? "gelu", ["gelu", "swiglu"]),
    bias: options.bias ?? false,
    dropout: checkNumber(fn, "options.dropout", options.dropout ?? 0, 0, 1 - 1e-6),
    tieWeights: options.tieWeights ?? true,
    dtype: checkOneOf(fn, "options.dtype", options.dtype ?? "float32", ["float32", "bfloat16"]),
    ...(options.device === undefined ? {} : { device: options.device }),
  };
}
