/** Scopes free tensors in bulk: everything created inside `tidy`, except what it returns, is disposed at its end. */
import { ArgumentTypeError } from "./errors.ts";
import type { Tensor } from "./tensor.ts";

const scopes: Set<Tensor>[] = [];

let recording = false;

/** @internal While a tape records, `tidy` hands its tensors to the enclosing scope: backward still needs them. */
export function setRecording(on: boolean): void {
  recording = on;
}

/** @internal */
export function isRecording(): boolean {
  return recording;
}

/** @internal Called by the Tensor constructor. */
export function track(tensor: Tensor): void {
  scopes.at(-1)?.add(tensor);
}

/** @internal Called by `dispose`, so that long scopes do not hold dead tensors. */
export function untrack(tensor: Tensor): void {
  for (const scope of scopes) scope.delete(tensor);
}

/** @internal Runs `fn` in a new scope and hands its result and all tensors created in it to the caller, who disposes. */
export function collect<T>(fn: () => T): { result: T; created: Set<Tensor> } {
  const created = new Set<Tensor>();
  scopes.push(created);
  try {
    const result = fn();
    return { result, created };
  } catch (error) {
    for (const tensor of [...created]) tensor.dispose();
    throw error;
  } finally {
    const index = scopes.lastIndexOf(created);
    scopes.splice(index, 1);
  }
}

/** @internal Hands a tensor of a finished scope to the enclosing one. */
export function adopt(tensor: Tensor): void {
  scopes.at(-1)?.add(tensor);
}

/** @internal All tensors in a value: a tensor, or arrays, maps and plain objects of them. */
export function tensorsIn(
  value: unknown,
  isTensor: (v: unknown) => v is Tensor,
  found = new Set<Tensor>(),
): Set<Tensor> {
  if (isTensor(value)) found.add(value);
  else if (Array.isArray(value)) for (const v of value) tensorsIn(v, isTensor, found);
  else if (value instanceof Map) for (const v of value.values()) tensorsIn(v, isTensor, found);
  else if (typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype)
    for (const v of Object.values(value)) tensorsIn(v, isTensor, found);
  return found;
}

/** @internal */
export function rejectPromise(fn: string, result: unknown): void {
  if (typeof (result as { then?: unknown } | null)?.then === "function")
    throw new ArgumentTypeError(`${fn}: fn returned a promise, want a synchronous function; read tensors outside it`);
}
