/** Products of each type and layout on the device given, beside the CPU's; then whether device and CPU still compute. */
import { BirkhoffError, type DType, ops, Tensor, tidy } from "../../../lib/index.ts";
import { native } from "../../../lib/native.ts";
import { uniform } from "../../support/random.ts";

const device = process.argv[2]!;

interface Product {
  what: string;
  /** |got - CPU's|, largest, and the same of the CPU's values alone. */
  error: number;
  largest: number;
}

function product(on: string, dtypes: [DType, DType], [m, n, k]: number[], transposeA: boolean, transposeB: boolean) {
  const batch = 3;
  const make = (rows: number, columns: number, seed: number, dtype: DType) =>
    Tensor.from(uniform(batch * rows * columns, -1, 1, seed), [batch, rows, columns], { dtype, device: on });
  const a = transposeA ? make(k!, m!, 1, dtypes[0]) : make(m!, k!, 1, dtypes[0]);
  const b = transposeB ? make(n!, k!, 2, dtypes[1]) : make(k!, n!, 2, dtypes[1]);
  return ops.matmul(a, b, { transposeA, transposeB }).dataSync();
}

function linear(on: string, dtype: DType, biasType: DType) {
  const x = Tensor.from(uniform(5 * 7, -1, 1, 3), [5, 7], { dtype, device: on });
  const weight = Tensor.from(uniform(9 * 7, -1, 1, 4), [9, 7], { dtype, device: on });
  const bias = Tensor.from(uniform(9, -1, 1, 5), [9], { dtype: biasType, device: on });
  return ops.linear(x, weight, bias).dataSync();
}

function compare(what: string, compute: (on: string) => ArrayLike<number>): Product {
  return tidy(() => {
    const [got, want] = [compute(device), compute("cpu")];
    const differences = Array.from(want, (v, i) => Math.abs(v - got[i]!));
    return { what, error: Math.max(...differences), largest: Math.max(...Array.from(want, Math.abs)) };
  });
}

const outcome: { gpuGemm: string; products: Product[]; error?: object; after?: number[][] } = {
  gpuGemm: native.info().gpuGemm,
  products: [],
};
try {
  for (const dtypes of [
    ["float32", "float32"],
    ["bfloat16", "bfloat16"],
    ["bfloat16", "float32"],
  ] as [DType, DType][])
    for (const transposeA of [false, true])
      for (const transposeB of [false, true])
        outcome.products.push(
          compare(`${dtypes} ${transposeA} ${transposeB}`, (on) =>
            product(on, dtypes, [5, 9, 7], transposeA, transposeB),
          ),
        );
  for (const dtype of ["float32", "bfloat16"] as const)
    for (const biasType of ["float32", "bfloat16"] as const)
      outcome.products.push(compare(`linear ${dtype} ${biasType}`, (on) => linear(on, dtype, biasType)));
} catch (error) {
  const { name, message } = error as Error;
  outcome.error = { name, message, code: error instanceof BirkhoffError ? error.code : "not typed" };
  const doubled = (on: string) => {
    try {
      const x = Tensor.from([1, 2, 3], undefined, { device: on });
      return [...ops.add(x, x).dataSync()];
    } catch (again) {
      return [(again as Error).message];
    }
  };
  outcome.after = [doubled(device), doubled("cpu")] as number[][];
}
console.log(JSON.stringify(outcome));
