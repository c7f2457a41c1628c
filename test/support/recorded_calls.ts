/** A valid argument list for every kernel of the addon, recorded while every op runs once forward and backward. */
import { memory, ops, optim, Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import { type Handle, type Native, native } from "../../lib/native.ts";
import { everyOp, inputsOf, lossOf, tinyTraining } from "./every_op.ts";

/** Stands for a tensor handle. */
export interface HandleSpec {
  dtype: number;
  size: number;
}

export type ArgumentSpec = HandleSpec | number | string | boolean | null | readonly number[] | ArrayBufferView;

export const isHandleSpec = (value: ArgumentSpec): value is HandleSpec =>
  typeof value === "object" && value !== null && "dtype" in value;

/** Calls by function name; at most two of different argument kinds each. */
export function recordCalls(): Map<string, ArgumentSpec[][]> {
  const functions = native as unknown as Record<string, (...args: unknown[]) => unknown>;
  const originals = { ...functions };
  const specs = new WeakMap<object, HandleSpec>();
  const calls = new Map<string, ArgumentSpec[][]>();
  const kinds = new Set<string>();
  const before = memory().tensors;
  for (const [name, original] of Object.entries(originals))
    functions[name] = (...args: unknown[]) => {
      const list = args.map((a) => (typeof a === "object" && a !== null && specs.get(a)) || (a as ArgumentSpec));
      const kind = `${name}(${list.map((a) => (isHandleSpec(a) ? a.dtype : typeof a)).join()})`;
      if (!kinds.has(kind)) {
        kinds.add(kind);
        calls.set(name, [...(calls.get(name) ?? []), list]);
      }
      const result = original(...args);
      if (name === "tensorEmpty" || name === "tensorFrom") {
        const size = typeof args[2] === "number" ? args[2] : (args[2] as Float32Array).length;
        specs.set(result as Handle, { dtype: args[1] as number, size });
      } else if (name === "tensorView") {
        const { dtype } = specs.get(args[0] as Handle)!;
        specs.set(result as Handle, { dtype, size: args[2] as number });
      } else if (name === "tensorCopy") specs.set(result as Handle, specs.get(args[0] as Handle)!);
      return result;
    };
  try {
    for (const op of everyOp)
      tidy(() => {
        const inputs = inputsOf(op);
        const floats = inputs.filter((t) => t.dtype !== "int32");
        valueAndGrad(() => lossOf(op, inputs), floats);
      });
    const training = tinyTraining();
    tidy(() => {
      const [, grads] = valueAndGrad(
        () => training.model.loss(training.tokens, training.targets),
        training.model.parameters(),
      );
      optim.clipGradNorm(grads, 1);
      training.optimizer.step(grads);
      // A strided copy whose lists have several axes, and reads.
      ops.transpose(Tensor.randn([3, 4, 5]), [2, 1, 0]).dataSync();
      native.blockCopy(Tensor.ones([4]).handle, Tensor.ones([4]).handle);
      native.tensorCopy(Tensor.ones([3]).handle, "cpu").dispose();
      native.tensorRead(Tensor.ones([3]).handle, false);
    });
    training.dispose();
  } finally {
    Object.assign(functions, originals);
  }
  if (memory().tensors !== before) throw new Error("recording leaked tensors");
  return calls;
}

/** Functions of the addon that are no kernels, with valid arguments. */
export const runtimeCalls: Partial<Record<keyof Native, ArgumentSpec[]>> = {
  devices: [],
  info: [],
  setThreads: [2],
  setMemoryBudget: [1 << 26],
  memory: [],
  resetPeakMemory: [],
  failAllocation: [-1],
  synchronize: [],
  markTime: ["cpu", "here"],
  traceKernels: ["cpu", false],
  takeMarks: ["cpu"],
  beginCapture: ["cpu"],
  endCapture: ["cpu"],
  cancelCapture: ["cpu"],
  setErrorFactory: [null],
  tensorReadSync: [{ dtype: 0, size: 4 }, false],
};
