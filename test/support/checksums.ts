/** Value and gradients of every op, reduced to a few numbers each, to compare instruction sets and machines. */
import { type Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import { everyOp, inputsOf, lossOf } from "./every_op.ts";

/** Sum of w·v and of |w·v|, the weights such that permutations and sign errors show. */
export interface Checksum {
  sum: number;
  size: number;
}
/** By op and dtype: the value's, then those of the gradients. */
export type Checksums = Record<string, Checksum[]>;

function checksum(tensor: Tensor): Checksum {
  let [sum, size] = [0, 0];
  for (const [i, v] of tensor.dataSync().entries()) {
    sum += v * (1 + (i % 7));
    size += Math.abs(v) * (1 + (i % 7));
  }
  return { sum, size };
}

export function everyChecksum(): Checksums {
  const results: Checksums = {};
  for (const op of everyOp)
    tidy(() => {
      const inputs = inputsOf(op);
      const floats = inputs.filter((t) => t.dtype !== "int32");
      const [, grads] = valueAndGrad(() => lossOf(op, inputs), floats);
      results[op.name] = [checksum(op.op(...inputs)), ...grads.map(checksum)];
    });
  return results;
}

/**
 * What differs by more than instruction sets may: they differ in the order of sums and in fused multiply-adds, a few roundings of each
 * element, of float32 (2^-24) or of what is stored as bfloat16 (2^-9), and Σ|v| bounds what they add up to. Sinkhorn passes on the
 * roundings of 20 iterations.
 */
export function differences(got: Checksums, want: Checksums): string[] {
  const found: string[] = [];
  for (const name of new Set([...Object.keys(want), ...Object.keys(got)])) {
    const [a, b] = [got[name] ?? [], want[name] ?? []];
    if (a.length !== b.length) found.push(`${name}: ${a.length} results, want ${b.length}`);
    const bound = name.endsWith("bfloat16") ? 8 * 2 ** -9 : 512 * 2 ** -24;
    // NaN differs from everything.
    for (const [i, { sum, size }] of b.entries())
      for (const [key, x, y] of [
        ["sum", a[i]?.sum, sum],
        ["size", a[i]?.size, size],
      ] as const)
        if (!(Math.abs(x! - y) <= bound * size + 1e-30)) found.push(`${name}, result ${i}: ${key} ${x}, want ${y}`);
  }
  return found;
}
