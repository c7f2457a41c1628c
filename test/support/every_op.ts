/** Every differentiable op once, at sizes that leave tails, for tests that are about all of them: memory, errors, sanitizers. */
import { type DType, nn, ops, optim, setSeed, Tensor } from "../../lib/index.ts";
import { integers, normal } from "./random.ts";

export interface OpCase {
  name: string;
  /** Shapes of the inputs; an int32 one holds indices below `below`. */
  inputs: readonly { shape: readonly number[]; dtype?: DType; below?: number }[];
  op: (...inputs: Tensor[]) => Tensor;
}

const [T, n, C] = [5, 4, 19];
const N = n * n + 2 * n;
const streams = { shape: [T, n, C] };
const hidden = { shape: [T, C] };
const parameters = [{ shape: [N, n * C] }, { shape: [3] }, { shape: [N] }];
const heads = { shape: [2, 3, T, 8] };
const table = (at: number) => ({ shape: [T], dtype: "int32" as const, below: at });

const cases: OpCase[] = [
  { name: "add", inputs: [hidden, { shape: [C] }], op: ops.add },
  { name: "mul", inputs: [hidden, { shape: [C] }], op: ops.mul },
  { name: "scale", inputs: [hidden], op: (x) => ops.scale(x!, 3) },
  { name: "silu", inputs: [hidden], op: ops.silu },
  { name: "gelu", inputs: [hidden], op: ops.gelu },
  { name: "swiglu", inputs: [hidden, hidden], op: ops.swiglu },
  { name: "cast", inputs: [hidden], op: (x) => ops.cast(x!, x!.dtype === "float32" ? "bfloat16" : "float32") },
  { name: "sum", inputs: [streams], op: (x) => ops.sum(x!, { axis: 1 }) },
  { name: "mean", inputs: [streams], op: (x) => ops.mean(x!) },
  { name: "softmax", inputs: [hidden], op: ops.softmax },
  { name: "rmsNorm", inputs: [hidden, { shape: [C] }], op: (x, w) => ops.rmsNorm(x!, w) },
  { name: "layerNorm", inputs: [hidden, { shape: [C] }, { shape: [C] }], op: (x, w, b) => ops.layerNorm(x!, w, b) },
  { name: "reshape", inputs: [streams], op: (x) => ops.reshape(x!, [n, T, C]) },
  { name: "transpose", inputs: [streams], op: (x) => ops.transpose(x!, [2, 0, 1]) },
  { name: "slice", inputs: [streams], op: (x) => ops.slice(x!, 2, 3, 11) },
  { name: "concat", inputs: [hidden, hidden], op: (a, b) => ops.concat([a!, b!], 1) },
  { name: "split", inputs: [streams], op: (x) => ops.split(x!, 2, 1)[1]! },
  { name: "dropout", inputs: [hidden], op: (x) => ops.dropout(x!, 0.5, { seed: 7 }) },
  { name: "embedding", inputs: [table(11), { shape: [11, C] }], op: ops.embedding },
  { name: "crossEntropy", inputs: [hidden, table(C)], op: ops.crossEntropy },
  { name: "matmul", inputs: [heads, { shape: [2, 3, 8, 7] }], op: (a, b) => ops.matmul(a!, b!) },
  { name: "linear", inputs: [hidden, { shape: [7, C] }, { shape: [7] }], op: ops.linear },
  { name: "attention", inputs: [heads, heads, heads], op: (q, k, v) => ops.attention(q!, k!, v!, { causal: true }) },
  { name: "expand", inputs: [hidden], op: (h) => ops.expand(h!, n) },
  { name: "contract", inputs: [streams], op: (x) => ops.contract(x!, "mean") },
  { name: "sinkhorn", inputs: [{ shape: [T, n, n], dtype: "float32" }], op: (x) => ops.sinkhorn(x!) },
  {
    name: "mhcPre",
    inputs: [streams, ...parameters],
    op: (x, phi, alpha, bias) => {
      const { input, post, res } = ops.mhcPre(x!, { phi: phi!, alpha: alpha!, bias: bias! });
      return ops.add(ops.sum(ops.cast(input, "float32")), ops.add(ops.sum(post), ops.sum(res)));
    },
  },
  {
    name: "mhcPost",
    inputs: [streams, hidden, { shape: [T, n], dtype: "float32" }, { shape: [T, n, n], dtype: "float32" }],
    op: ops.mhcPost,
  },
  {
    name: "connect",
    inputs: [streams, ...parameters, { shape: [C] }],
    op: (x, phi, alpha, bias, weight) =>
      ops.connect(x!, { phi: phi!, alpha: alpha!, bias: bias! }, (u) => ops.mul(u, ops.cast(weight!, u.dtype))),
  },
  {
    name: "connectChain",
    inputs: [streams, ...parameters, ...parameters],
    op: (x, ...p) =>
      ops.connectChain(x!, [
        { parameters: { phi: p[0]!, alpha: p[1]!, bias: p[2]! }, branch: ops.silu },
        { parameters: { phi: p[3]!, alpha: p[4]!, bias: p[5]! }, branch: ops.gelu, options: { iters: 3 } },
      ]),
  },
  {
    name: "contract, learned",
    inputs: [streams, { shape: [n, n * C] }, { shape: [1] }, { shape: [n] }],
    op: (x, phi, alpha, bias) => ops.contract(x!, { phi: phi!, alpha: alpha!, bias: bias! }),
  },
];

/** Parameters of connections are float32 whatever the streams are. */
const always32 = new Set(["mhcPre", "connect", "connectChain", "contract, learned"]);

export const everyOp: readonly (OpCase & { dtype: DType })[] = cases.flatMap((c) =>
  (["float32", "bfloat16"] as const).map((dtype) => ({ ...c, dtype, name: `${c.name}, ${dtype}` })),
);

/** The inputs as tensors, always the same values. */
export function inputsOf({ name, inputs, dtype }: OpCase & { dtype: DType }): Tensor[] {
  return inputs.map((input, i) => {
    const size = input.shape.reduce((a, b) => a * b, 1);
    if (input.dtype === "int32") return Tensor.from(integers(size, input.below!, i), input.shape);
    const own = i > 0 && always32.has(name.slice(0, name.lastIndexOf(","))) ? "float32" : (input.dtype ?? dtype);
    return Tensor.from(normal(size, 1, i + 1), input.shape, { dtype: own });
  });
}

/** Σ y²: a plain sum would have no gradient where the op's results always add up to the same. */
export function lossOf({ op }: OpCase, inputs: readonly Tensor[]): Tensor {
  const y = ops.cast(op(...inputs), "float32");
  return ops.sum(ops.mul(y, y));
}

export interface TinyTraining {
  model: nn.GPT;
  optimizer: optim.AdamW;
  tokens: Tensor;
  targets: Tensor;
  dispose(): void;
}

/** A GPT of one block with mHC, its optimizer and a batch. @param device default the current one */
export function tinyTraining(seed = 1, device?: string): TinyTraining {
  setSeed(seed);
  const model = new nn.GPT({ vocab: 13, dim: 16, layers: 1, heads: 2, context: 8, device });
  const optimizer = new optim.AdamW(model.parameters());
  const tokens = Tensor.from(integers(16, 13, 1), [2, 8], { device });
  const targets = Tensor.from(integers(16, 13, 2), [2, 8], { device });
  const dispose = () => {
    for (const owner of [model, optimizer, tokens, targets]) owner.dispose();
  };
  return { model, optimizer, tokens, targets, dispose };
}
