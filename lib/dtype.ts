import { DTypeError } from "./errors.ts";

/** Element types. `bfloat16` is storage only: sums and coefficients are always float32. */
export type DType = "float32" | "bfloat16" | "int32";

/** Codes shared with `native/core/dtype.h`. */
export const dtypeCode: Record<DType, number> = { float32: 0, bfloat16: 1, int32: 2 };
export const dtypeBytes: Record<DType, number> = { float32: 4, bfloat16: 2, int32: 4 };

export function checkDType(fn: string, argument: string, dtype: unknown, allowed?: readonly DType[]): DType {
  const wanted = allowed ?? (["float32", "bfloat16", "int32"] as const);
  if (typeof dtype === "string" && (wanted as readonly string[]).includes(dtype)) return dtype as DType;
  throw new DTypeError(`${fn}: ${argument} is ${String(dtype)}, want ${wanted.join(" or ")}`);
}
