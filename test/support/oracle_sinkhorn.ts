/** Sinkhorn in the logarithm domain, float64, through every iteration: right for any spread of the logits, at ε = 0. */

interface Step {
  /** The matrix' logarithm after the step. */
  log: Float64Array;
  at: (line: number, k: number) => number;
}

/** Each line less the logarithm of its sum of exponentials. */
function normalise(log: Float64Array, n: number, rows: boolean): Step {
  const at = (line: number, k: number) => (rows ? line * n + k : k * n + line);
  const out = new Float64Array(log.length);
  for (let line = 0; line < n; line++) {
    let top = -Infinity;
    for (let k = 0; k < n; k++) top = Math.max(top, log[at(line, k)]!);
    let sum = 0;
    for (let k = 0; k < n; k++) sum += Math.exp(log[at(line, k)]! - top);
    for (let k = 0; k < n; k++) out[at(line, k)] = log[at(line, k)]! - top - Math.log(sum);
  }
  return { log: out, at };
}

/** res of one n × n matrix of logits, and the logits' gradient for one of res. In deepseek-v4 rows come first and res is transposed. */
export function logSinkhorn(
  logits: ArrayLike<number>,
  gradRes: ArrayLike<number>,
  { n, iters, convention }: { n: number; iters: number; convention: "paper" | "deepseek-v4" },
): { res: Float64Array; gradLogits: Float64Array } {
  const v4 = convention === "deepseek-v4";
  const order = (i: number) => (v4 ? (i % n) * n + Math.floor(i / n) : i);
  const steps: Step[] = [];
  let log: Float64Array = Float64Array.from(logits);
  for (let half = 0; half < 2 * iters; half++) {
    const step = normalise(log, n, (half % 2 === 1) !== v4);
    steps.push(step);
    log = step.log;
  }
  const res = Float64Array.from(log, (_, i) => Math.exp(log[order(i)]!));
  // Of the logarithms: each step takes from a line's gradient its sum, times the line.
  let grad: Float64Array = Float64Array.from(log, (v, i) => Math.exp(v) * gradRes[order(i)]!);
  for (const { log: after, at } of steps.reverse()) {
    const before = new Float64Array(grad.length);
    for (let line = 0; line < n; line++) {
      let sum = 0;
      for (let k = 0; k < n; k++) sum += grad[at(line, k)]!;
      for (let k = 0; k < n; k++) before[at(line, k)] = grad[at(line, k)]! - Math.exp(after[at(line, k)]!) * sum;
    }
    grad = before;
  }
  return { res, gradLogits: grad };
}
