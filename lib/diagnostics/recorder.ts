/** Captures the residual mappings of a network during one forward pass, without a second pass and without waiting for it. */
import { ArgumentTypeError } from "../errors.ts";
import type { HyperConnection } from "../nn/hyper_connection.ts";
import { keep, readAll, type Tensor } from "../tensor.ts";
import { show } from "../validate.ts";
import { type GainReport, gainReport } from "./gains.ts";

/** What a recording gives. */
export interface Recording<T> {
  /** What the function returned. */
  result: T;
  /** Reads the mappings, frees them, and reports; undefined when the network has none ("plain"). Call it once. */
  report(): Promise<GainReport | undefined>;
  /** Frees the mappings without a report. Idempotent. */
  dispose(): void;
}

/**
 * Runs a synchronous `fn` and captures the res of every connection that runs in it, of the first sequence of the batch only.
 *
 * @param model  anything with `connections()`, such as a GPT
 * @param fn     one forward pass, or `valueAndGrad` of one
 * @throws {TypeError} a model without `connections()`
 */
export function record<T>(model: { connections(): HyperConnection[] }, fn: () => T): Recording<T> {
  if (typeof model?.connections !== "function")
    throw new ArgumentTypeError(`record: model is ${show(model)}, want one with connections(), such as a GPT`);
  const captured: Tensor[] = [];
  const dispose = () => {
    for (const tensor of captured) tensor.dispose();
  };
  const connections = model.connections();
  const before = connections.map((c) => c.onCoefficients);
  for (const [i, connection] of connections.entries())
    connection.onCoefficients = (coefficients) => {
      before[i]?.(coefficients);
      // A view of the first sequence, [T, n, n]: nothing is copied.
      captured.push(keep(coefficients.res.view(coefficients.res.shape.slice(-3))));
    };
  let result: T;
  try {
    result = fn();
  } catch (error) {
    dispose();
    throw error;
  } finally {
    for (const [i, connection] of connections.entries()) connection.onCoefficients = before[i];
  }
  return {
    result,
    dispose,
    async report() {
      if (captured.length === 0) return undefined;
      const n = captured[0]!.shape.at(-1)!;
      try {
        const values = await readAll(captured, (tensor) => tensor.data());
        return gainReport(values as Float32Array[], n);
      } finally {
        dispose();
      }
    },
  };
}
