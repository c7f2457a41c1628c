/**
 * Compares an op with an independent float64 oracle: its values, and its gradients of loss = Σ y·cotangent against central
 * differences of the oracle. The differences are taken in float64 with the five-point formula, whose own error
 * (h⁴/30 · f⁽⁵⁾ + 2⁻⁵²·|f|/h ≈ 1e-12 at h = 1e-3) is far below any float32 bound.
 */
import type { DType } from "../../lib/index.ts";
import { ops, Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import { cotangent, rounded } from "./random.ts";
import { assertClose, type Tolerance } from "./tolerance.ts";

export interface CheckedInput {
  /** Stands in error messages. */
  name: string;
  shape: readonly number[];
  values: ArrayLike<number>;
  /** Default float32. An int32 input is not differentiated. */
  dtype?: DType;
  /** Default true. */
  differentiable?: boolean;
  /** Overrides the check's `gradient`. */
  gradient?: Tolerance;
}

export interface GradCheck {
  inputs: readonly CheckedInput[];
  /** The op, through the library's API. */
  op: (...inputs: Tensor[]) => Tensor | Tensor[];
  /** The same function in float64; it gets the inputs as their dtype rounds them, and must not change them. */
  oracle: (...inputs: Float64Array[]) => Float64Array | Float64Array[];
  /** Bound of the values. */
  value: Tolerance;
  /** Bound of the gradients. */
  gradient: Tolerance;
  device?: string;
  /** Seed of the cotangents; default 1. */
  seed?: number;
  /** Step of the differences; default 1e-3. Smaller for an oracle with sharp bends. */
  step?: number;
  /** At most this many elements of each input are differenced, evenly spread; default 256. */
  samples?: number;
}

const asList = <T>(value: T | T[]): T[] => (Array.isArray(value) ? value : [value]);

/** Runs the check; throws with the worst element on failure. Leaves no tensor behind. */
export function gradcheck(check: GradCheck): void {
  const { inputs, op, oracle, value, gradient, device = "cpu", seed = 1, step = 1e-3, samples = 256 } = check;
  const exact = inputs.map((i) => rounded(i.values, i.dtype ?? "float32"));
  const expected = asList(oracle(...exact));
  const cotangents = expected.map((y, k) => cotangent(y.length, seed + k));
  const loss = (arguments_: Float64Array[]): number => {
    let sum = 0;
    for (const [k, y] of asList(oracle(...arguments_)).entries())
      for (let i = 0; i < y.length; i++) sum += y[i]! * cotangents[k]![i]!;
    return sum;
  };

  const wanted = inputs.flatMap((i, at) => (i.differentiable !== false && i.dtype !== "int32" ? [at] : []));
  const actual = tidy(() => {
    const tensors = inputs.map((i) => {
      const values = i.dtype === "int32" ? Int32Array.from(i.values) : Float32Array.from(i.values);
      return Tensor.from(values, i.shape, { dtype: i.dtype ?? "float32", device });
    });
    const outputs: (Float32Array | Int32Array)[] = [];
    const [, grads] = valueAndGrad(
      () => {
        let total: Tensor | undefined;
        for (const [k, y] of asList(op(...tensors)).entries()) {
          outputs.push(y.dataSync());
          const c = Tensor.from(cotangents[k]!, y.shape, { device });
          const term = ops.sum(ops.mul(ops.cast(y, "float32"), c));
          total = total ? ops.add(total, term) : term;
        }
        return total!;
      },
      wanted.map((at) => tensors[at]!),
    );
    return { outputs, grads: grads.map((g) => g.dataSync()) };
  });

  if (actual.outputs.length !== expected.length)
    throw new Error(`the op has ${actual.outputs.length} results, the oracle ${expected.length}`);
  for (const [k, y] of expected.entries()) assertClose(actual.outputs[k]!, y, { ...value, label: `result ${k}` });

  for (const [k, at] of wanted.entries()) {
    const input = exact[at]!;
    const count = Math.min(samples, input.length);
    const picked: number[] = [];
    const differences: number[] = [];
    const moved = exact.map((a, i) => (i === at ? a.slice() : a));
    for (let s = 0; s < count; s++) {
      const i = Math.floor((s * input.length) / count);
      const at1 = (h: number): number => {
        moved[at]![i] = input[i]! + h;
        return loss(moved);
      };
      differences.push((8 * (at1(step) - at1(-step)) - (at1(2 * step) - at1(-2 * step))) / (12 * step));
      moved[at]![i] = input[i]!;
      picked.push(actual.grads[k]![i]!);
    }
    assertClose(picked, differences, {
      ...(inputs[at]!.gradient ?? gradient),
      label: `gradient of ${inputs[at]!.name} (${count} of ${input.length} elements)`,
    });
  }
}
