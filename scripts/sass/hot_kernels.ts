/**
 * The kernels whose instructions are watched: those of registers.md and the others that go through memory once, on their vector
 * path. Loads and stores of 16 bytes are the rule; what is narrower in a loop, called or kept in local memory stands here with the
 * reason, and no more of it passes.
 */
import { hotKernels as connections, dtype, type HotKernel, hot } from "../ptxas_report.ts";

export interface Exception {
  /** Which of the entry's kernels; absent: all. */
  of?: RegExp;
  what: "narrow loads" | "narrow stores" | "calls" | "local memory";
  /** Narrow accesses: of one loop. Calls, local memory: of the kernel. */
  most: number;
  why: string;
}

export interface WatchedKernel extends HotKernel {
  /** Accesses of full width that each kernel has at least: none at all must not pass for none too many. */
  wide: { loads: number; stores: number };
  /** Bytes of an access that is not narrow. */
  width: (kernel: string) => number;
  exceptions: readonly Exception[];
}

type Rules = Partial<Pick<WatchedKernel, "wide" | "width" | "exceptions">>;

const division =
  "divisions and roots whose slow path is a call; exact ones without it are a later issue's (and what is rare: sinkhorn_lost.h)";
const calls = (most: number, of?: RegExp): Exception => ({ what: "calls", most, why: division, of });
const loads = (most: number, why: string, of?: RegExp): Exception => ({ what: "narrow loads", most, why, of });
const stores = (most: number, why: string, of?: RegExp): Exception => ({ what: "narrow stores", most, why, of });

const rare = "native/ops/sinkhorn_lost.h, out of line and over matrices in memory: for rare tokens";
const rareCalls = (most: number, of: RegExp): Exception => ({ what: "calls", most, why: rare, of });
const rareMemory = (most: number, of: RegExp): Exception => ({ what: "local memory", most, why: rare, of });

const readsOnly = { loads: 1, stores: 0 };
const res = "res, for dx: a word for all lanes";
const tails = "8 bytes are all there is: the last two of a token's weights, the last eight rows of r dm";
/** By what registers.md calls them. */
export const connectionRules: Readonly<Record<string, Rules>> = {
  stats: { wide: readsOnly },
  collapse: {
    // Both dtypes and the path of rows that are not aligned are in one kernel.
    wide: { loads: 6, stores: 3 },
    exceptions: [
      calls(8, /<2, true>/),
      calls(14, /<2, false>/),
      calls(10, /<4, true>/),
      calls(18, /<4, false>/),
      calls(14, /<8, true>/),
      calls(26, /<8, false>/),
      rareMemory(59, /<2, false>/),
      rareMemory(62, /<4, false>/),
      rareMemory(74, /<8, false>/),
    ],
  },
  prepare: { exceptions: [loads(4, res, /<2/), loads(16, res, /<4/), loads(64, res, /<8/)] },
  "coefficient backward: dpre": { wide: readsOnly },
  "coefficient backward": {
    // A thread per token, and rows of n floats.
    wide: { loads: 0, stores: 0 },
    exceptions: [
      calls(3, /<2, true>/),
      calls(17, /<2, false>/),
      calls(5, /<4, true>/),
      calls(21, /<4, false>/),
      calls(9, /<8, true>/),
      calls(29, /<8, false>/),
      rareMemory(91, /<2, false>/),
      rareMemory(103, /<4, false>/),
      rareMemory(151, /<8, false>/),
    ],
  },
  "Sinkhorn forward": {
    exceptions: [rareCalls(4, /./), rareMemory(61, /<2>/), rareMemory(64, /<4>/), rareMemory(76, /<8>/)],
  },
  "Sinkhorn backward": {
    exceptions: [rareCalls(12, /./), rareMemory(95, /<2>/), rareMemory(118, /<4>/), rareMemory(155, /<8>/)],
  },
  // A lane has four columns where n = 8.
  finish: {
    width: (kernel) => (/<8, true, bfloat16,/.test(kernel) ? 8 : 16),
    exceptions: [loads(4, tails, /<8, true, float,/), loads(3, tails, /<2, .*0>/), loads(7, tails, /<(2|4), /)],
  },
};

const unaligned = "elements of rows that are not aligned, behind a flag";
const tileEnd = "the product's tile, once: fragments are pairs, and rows have any alignment";
const others: readonly (HotKernel & Rules)[] = [
  {
    ...hot("cross entropy", "cross_entropy.cu", `cross_entropy_forward_kernel<true, ${dtype}>`, 2),
    wide: readsOnly,
    exceptions: [calls(1)],
  },
  {
    ...hot("cross entropy backward", "cross_entropy.cu", `cross_entropy_backward_kernel<true, ${dtype}>`, 2),
    exceptions: [calls(1)],
  },
  { ...hot("softmax", "softmax.cu", `softmax_forward_kernel<true, ${dtype}>`, 2), exceptions: [calls(1)] },
  hot("softmax backward", "softmax.cu", `softmax_backward_kernel<true, ${dtype}>`, 2),
  { ...hot("rmsNorm, layerNorm", "norm.cu", `norm_forward_kernel<true, ${dtype}>`, 2), exceptions: [calls(4)] },
  {
    ...hot("rmsNorm, layerNorm backward", "norm.cu", `norm_backward_kernel<true, ${dtype}>`, 2),
    exceptions: [calls(2)],
  },
  {
    ...hot("embedding", "embedding.cu", "gather_kernel<uint4>", 1),
    exceptions: [
      loads(2, "indices, one for each 16 bytes"),
      { ...calls(2), why: "the 64-bit division that finds the row" },
    ],
  },
  {
    ...hot("embedding backward", "embedding.cu", `sum_kernel<true, ${dtype}, ${dtype}>`, 4),
    exceptions: [
      loads(5, "the row's range, and each token's number"),
      { ...calls(1), why: "the 64-bit division that finds the row" },
    ],
  },
  {
    ...hot("elementwise", "elementwise.cu", `map_kernel<true, ${dtype}, Lift<\\w+>(, ${dtype})+>`, 20),
    exceptions: [calls(8, /Silu|Gelu|Swiglu/)],
  },
  { ...hot("AdamW", "adamw.cu", `adamw_kernel<true, ${dtype}>`, 2), exceptions: [calls(16)] },
  {
    ...hot(
      "matrix product, bfloat16",
      "gemm_bfloat16.cu",
      "gemm_bfloat16_kernel<(true|false), (true|false), (64|128)>",
      8,
    ),
    // Operands are copied to shared memory, which is no load.
    wide: { loads: 0, stores: 0 },
    exceptions: [loads(32, unaligned)],
  },
  {
    ...hot("matrix product, float32", "gemm_float32.cu", `gemm_float32_kernel<${dtype}, ${dtype}, (64|128)>`, 6),
    wide: readsOnly,
    exceptions: [
      loads(104, unaligned, /<float, float, 64>/),
      loads(105, unaligned, / 64>/),
      stores(104, tileEnd, / 64>/),
      loads(392, unaligned, /<float, float, 128>/),
      loads(393, unaligned, / 128>/),
      stores(400, tileEnd, / 128>/),
      { what: "local memory", most: 92, why: "spills outside the inner product, see registers.md", of: / 128>/ },
    ],
  },
];

export const watchedKernels: readonly WatchedKernel[] = [
  ...connections.map((kernel) => ({ ...kernel, ...connectionRules[kernel.what] })),
  ...others,
].map((kernel) => ({ wide: { loads: 1, stores: 1 }, width: () => 16, exceptions: [], ...kernel }));
