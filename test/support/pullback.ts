/** Gradients of an op for a given cotangent, without the ops that a scalar loss would need. */
import { Gradients, Tape, withTape } from "../../lib/autograd.ts";
import { setThreads, Tensor, tidy } from "../../lib/index.ts";
import type { GradCheck } from "./gradcheck.ts";
import { cotangent, rounded } from "./random.ts";
import { assertBitwiseEqual, assertClose } from "./tolerance.ts";

/** The result of `fn` and, per parameter, the gradient of Σ result · cotangent. Reads everything; leaves no tensor behind. */
export function pullback(fn: () => Tensor, params: readonly Tensor[], seeds: Float32Array) {
  return tidy(() => {
    const tape = new Tape(new Set(params));
    const y = withTape(tape, fn);
    const value = y.dataSync();
    const grads = new Gradients(y);
    grads.add(y, Tensor.from(seeds, y.shape, { dtype: y.dtype, device: y.device }));
    tape.backward(grads);
    return { value, grads: params.map((p) => grads.take(p)?.dataSync()) };
  });
}

/** Like `gradcheck`, with the cotangent put in directly. */
export function checkOp(check: GradCheck): void {
  const { inputs, oracle, value, gradient, device = "cpu", seed = 1, step = 1e-3, samples = 128 } = check;
  const op = check.op as (...tensors: Tensor[]) => Tensor;
  const oracleOf = oracle as (...arrays: Float64Array[]) => Float64Array;
  const exact = inputs.map((i) => rounded(i.values, i.dtype ?? "float32"));
  const expected = oracleOf(...exact);
  const seeds = cotangent(expected.length, seed);
  const loss = (arguments_: Float64Array[]) => oracleOf(...arguments_).reduce((sum, y, i) => sum + y * seeds[i]!, 0);
  const wanted = inputs.flatMap((i, at) => (i.differentiable !== false && i.dtype !== "int32" ? [at] : []));
  const actual = tidy(() => {
    const tensors = inputs.map((i) => {
      const values = i.dtype === "int32" ? Int32Array.from(i.values) : Float32Array.from(i.values);
      return Tensor.from(values, i.shape, { dtype: i.dtype ?? "float32", device });
    });
    return pullback(
      () => op(...tensors),
      wanted.map((at) => tensors[at]!),
      seeds,
    );
  });
  assertClose(actual.value, expected, { ...value, label: "result" });
  for (const [slot, at] of wanted.entries()) {
    const input = exact[at]!;
    const moved = exact.map((a, i) => (i === at ? a.slice() : a));
    const difference = (i: number) => {
      const lossAt = (h: number) => {
        moved[at]![i] = input[i]! + h;
        return loss(moved);
      };
      const slope = (8 * (lossAt(step) - lossAt(-step)) - (lossAt(2 * step) - lossAt(-2 * step))) / (12 * step);
      moved[at]![i] = input[i]!;
      return slope;
    };
    const count = Math.min(samples, input.length);
    const picked = Array.from({ length: count }, (_, s) => Math.floor((s * input.length) / count));
    const grad = actual.grads[slot];
    if (!grad) throw new Error(`no gradient of ${inputs[at]!.name}`);
    if (grad.length !== input.length) throw new Error(`gradient of ${inputs[at]!.name}: ${grad.length} elements`);
    assertClose(
      picked.map((i) => grad[i]!),
      picked.map(difference),
      { ...(inputs[at]!.gradient ?? gradient), label: `gradient of ${inputs[at]!.name}` },
    );
  }
}

/** Runs `compute` on 1 thread, on 2, and on 2 again; every array must have the same bits each time. */
export function assertSameAtAnyThreads(compute: () => (Float32Array | Int32Array | undefined)[]): void {
  setThreads(1);
  const first = compute();
  setThreads(2);
  for (const run of ["2 threads", "2 threads again"])
    for (const [i, array] of compute().entries()) assertBitwiseEqual(array!, first[i]!, `array ${i}, ${run}`);
}
