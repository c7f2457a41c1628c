/** The addon and the types of its surface. Everything below this file is C++; nothing above it touches the addon directly. */
import { loadAddon } from "./addon.ts";
import { errorFromCode } from "./errors.ts";

/** Owns one reference to native storage. Opaque to TypeScript. */
export interface Handle {
  /** Idempotent. Work already queued still sees the data. */
  dispose(): void;
}

/** Recorded work. */
export interface NativeGraph extends Handle {
  /** Queues it once more. */
  launch(): void;
}

type H = Handle;
type Optional = Handle | null;

export interface Emulator {
  /** @param order 0 forward, 1 reverse, 2 random by seed   @param lazy streams run late and out of order */
  configure(order: number, seed: number, lazy: boolean, strict: boolean): void;
  /** Whether mma rounds as a GPU's tensor cores do (the default), or to the nearest float32. */
  truncateMma(truncate: boolean): void;
  /** The countdown-th call of the CUDA runtime from now on fails; below 0: none does. */
  failCall(countdown: number): void;
  calls(): number;
  liveAllocations(): number;
  /** Bytes held, in use or kept: by the pool of the allocator's segments and by that of reads, and pinned on the host. */
  memory(): { allocator: number; reads: number; pinned: number };
  /** The pool of reads may make a stream wait for another. */
  internalDependencies(): boolean;
  lastReport(): string;
  reset(): void;
}

/** The addon's functions. One line per kernel; arguments in the order of the Args struct in `native/ops`. */
export interface Native {
  // Runtime.
  setErrorFactory(factory: (code: string, message: string) => Error): void;
  devices(): { name: string; available: boolean; description: string; reason?: string }[];
  info(): { simd: string; gemm: string; gpuGemm: string; threads: number; cores: number };
  setThreads(count: number): void;
  setMemoryBudget(bytes: number): void;
  memory(): { tensors: number; bytes: number; peakBytes: number; reservedBytes: number };
  resetPeakMemory(): void;
  failAllocation(countdown: number): void;
  synchronize(device: string): Promise<void>;
  // Measurements: moments of a device's stream, in order. They belong to the device: one thread measures at a time.
  markTime(device: string, name: string): void;
  /** While on, every kernel of a GPU leaves a mark with its name behind it. */
  traceKernels(device: string, on: boolean): void;
  /** Waits; all marks since the last call, each with the milliseconds since the first. */
  takeMarks(device: string): { name: string; ms: number }[];
  // What this thread queues on the device in between becomes a graph instead of running; see native/core/graph.h.
  beginCapture(device: string): void;
  endCapture(device: string): NativeGraph;
  cancelCapture(device: string): void;
  /** Controls of the executor that runs CUDA kernels on the CPU; in its own build alone. */
  emulator?: Emulator;
  // Tensors.
  tensorEmpty(device: string, dtype: number, size: number): H;
  tensorFrom(device: string, dtype: number, data: Float32Array | Int32Array | Uint16Array): H;
  /** Queues an overwrite of all elements. */
  tensorWrite(target: H, data: Float32Array | Int32Array | Uint16Array): void;
  tensorView(source: H, offset: number, size: number): H;
  tensorCopy(source: H, device: string): H;
  tensorRead(source: H, bits: boolean): Promise<Float32Array | Int32Array | Uint16Array>;
  tensorReadSync(source: H, bits: boolean): Float32Array | Int32Array | Uint16Array;
  // Creation.
  fill(out: H, value: number): void;
  randn(out: H, seed: number, mean: number, std: number): void;
  cast(x: H, out: H): void;
  // Elementwise; b repeats over the leading axes of a.
  add(a: H, b: H, out: H): void;
  mul(a: H, b: H, out: H): void;
  scale(x: H, out: H, factor: number): void;
  siluForward(x: H, out: H): void;
  siluBackward(x: H, gradOut: H, gradX: H): void;
  geluForward(x: H, out: H): void;
  geluBackward(x: H, gradOut: H, gradX: H): void;
  swigluForward(gate: H, up: H, out: H): void;
  swigluBackward(gate: H, up: H, gradOut: H, gradGate: Optional, gradUp: Optional): void;
  // Normalisation.
  rmsNormForward(x: H, weight: Optional, y: H, inverse: H, rows: number, channels: number, eps: number): void;
  rmsNormBackward(
    x: H,
    weight: Optional,
    gradY: H,
    inverse: H,
    gradX: Optional,
    gradWeight: Optional,
    rows: number,
    channels: number,
  ): void;
  layerNormForward(
    x: H,
    weight: Optional,
    bias: Optional,
    y: H,
    mean: H,
    inverse: H,
    rows: number,
    channels: number,
    eps: number,
  ): void;
  layerNormBackward(
    x: H,
    weight: Optional,
    gradY: H,
    mean: H,
    inverse: H,
    gradX: Optional,
    gradWeight: Optional,
    gradBias: Optional,
    rows: number,
    channels: number,
  ): void;
  // Sums and layouts.
  reduceAxis(x: H, factor: Optional, out: H, outer: number, count: number, inner: number, divisor: number): void;
  broadcastAxis(x: H, out: H, outer: number, count: number, inner: number, divisor: number): void;
  stridedCopy(
    source: H,
    target: H,
    shape: readonly number[],
    sourceStrides: readonly number[],
    sourceOffset: number,
    targetStrides: readonly number[],
    targetOffset: number,
  ): void;
  /** One block of whole 16 bytes by a kernel: for measurements. */
  blockCopy(source: H, target: H): void;
  // Hyper-connections.
  sinkhornForward(logits: H, res: H, tokens: number, n: number, iters: number, eps: number, convention: number): void;
  sinkhornBackward(
    logits: H,
    gradRes: H,
    gradLogits: H,
    tokens: number,
    n: number,
    iters: number,
    eps: number,
    convention: number,
  ): void;
  mhcPreForward(
    x: H,
    phi: H,
    alpha: H,
    bias: H,
    input: H,
    pre: H,
    post: Optional,
    res: Optional,
    q: H,
    r: H,
    tokens: number,
    n: number,
    channels: number,
    normEps: number,
    iters: number,
    sinkhornEps: number,
    convention: number,
    projection: number,
  ): void;
  mhcPreBackward(
    x: H,
    phi: H,
    alpha: H,
    bias: H,
    q: H,
    r: H,
    gradInput: Optional,
    gradPre: Optional,
    gradPost: Optional,
    gradRes: Optional,
    gradOutput: Optional,
    gradX: H,
    gradPhi: H,
    gradAlpha: H,
    gradBias: H,
    tokens: number,
    n: number,
    channels: number,
    headOnly: number,
    normEps: number,
    iters: number,
    sinkhornEps: number,
    convention: number,
    projection: number,
  ): void;
  mhcPostForward(x: H, output: H, post: H, res: H, y: H, tokens: number, n: number, channels: number): void;
  mhcPostBackward(
    x: H,
    output: H,
    post: H,
    res: H,
    gradY: H,
    gradOutput: H,
    gradPost: H,
    gradRes: H,
    gradX: Optional,
    tokens: number,
    n: number,
    channels: number,
  ): void;
  seamForward(
    x: H,
    output: H,
    post: H,
    res: H,
    phi: H,
    alpha: H,
    bias: H,
    y: H,
    input: H,
    pre: H,
    postNext: H,
    resNext: H,
    q: H,
    r: H,
    tokens: number,
    n: number,
    channels: number,
    normEps: number,
    iters: number,
    sinkhornEps: number,
    convention: number,
    projection: number,
  ): void;
  expand(h: H, x: H, tokens: number, n: number, channels: number, scale: number): void;
  contract(h: H, x: H, tokens: number, n: number, channels: number, scale: number): void;
  // Matrix products, attention, losses.
  matmul(
    a: H,
    b: H,
    bias: Optional,
    c: H,
    batch: number,
    sharedB: number,
    m: number,
    n: number,
    k: number,
    transposeA: number,
    transposeB: number,
  ): void;
  columnSum(x: H, out: H, rows: number, columns: number): void;
  embeddingForward(indices: H, weight: H, out: H, tokens: number, vocabulary: number, channels: number): void;
  embeddingBackward(indices: H, gradOut: H, gradWeight: H, tokens: number, vocabulary: number, channels: number): void;
  attentionForward(
    q: H,
    k: H,
    v: H,
    out: H,
    logSumExp: H,
    heads: number,
    length: number,
    headSize: number,
    causal: number,
    scale: number,
  ): void;
  attentionBackward(
    q: H,
    k: H,
    v: H,
    out: H,
    logSumExp: H,
    gradOut: H,
    gradQ: Optional,
    gradK: Optional,
    gradV: Optional,
    heads: number,
    length: number,
    headSize: number,
    causal: number,
    scale: number,
  ): void;
  softmaxForward(x: H, y: H, rows: number, columns: number): void;
  softmaxBackward(y: H, gradY: H, gradX: H, rows: number, columns: number): void;
  crossEntropyForward(logits: H, targets: H, logSumExp: H, loss: H, tokens: number, classes: number): void;
  crossEntropyBackward(
    logits: H,
    targets: H,
    logSumExp: H,
    gradLoss: H,
    gradLogits: H,
    tokens: number,
    classes: number,
  ): void;
  dropout(x: H, y: H, seeds: Optional, p: number, seed: number): void;
  // Optimizer steps, in place: the only functions that write to a tensor that someone else may hold.
  adamw(param: H, grad: H, m: H, v: H, factors: H, slot: number, beta1: number, beta2: number, eps: number): void;
  sumSquares(x: H, out: H, accumulate: number): void;
  squareRoot(x: H, out: H): void;
  clipScale(x: H, sumSquares: H, maxNorm: number): void;
}

function load(): Native {
  native = loadAddon<Native>((addon) => addon.setErrorFactory(errorFromCode));
  return native;
}

/**
 * The addon. Its file is loaded by the first use, so that `import "birkhoff"` works where there is none; from then on this is the
 * addon itself.
 *
 * @throws {AddonError} on every use, where it cannot be loaded
 */
export let native: Native = new Proxy({} as Native, {
  get: (_, name) => Reflect.get(load(), name),
  set: (_, name, value) => Reflect.set(load(), name, value),
  has: (_, name) => Reflect.has(load(), name),
  ownKeys: () => Reflect.ownKeys(load()),
  getOwnPropertyDescriptor: (_, name) => Reflect.getOwnPropertyDescriptor(load(), name),
});
