/** Argument checks with readable messages; the native side checks again, for memory safety only. */
import type { DType } from "./dtype.ts";
import { ArgumentRangeError, ArgumentTypeError, DeviceError, DisposedError, DTypeError, ShapeError } from "./errors.ts";
import { nearest } from "./nearest.ts";
import { Tensor } from "./tensor.ts";

/** Renders a value for an error message, in one short line. */
export function show(value: unknown): string {
  if (value instanceof Tensor) return `a ${value.dtype} tensor [${value.shape.join(", ")}]`;
  if (typeof value === "string") return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  if (Array.isArray(value)) return `[${value.slice(0, 8).map(show).join(", ")}${value.length > 8 ? ", …" : ""}]`;
  if (typeof value === "object" && value !== null) return `a ${value.constructor?.name ?? "object"}`;
  return typeof value === "function" ? "a function" : String(value);
}

/** A type that `checkOptions` checks, or "checked": by who reads the option (numbers, words, dtypes, lists). */
type Kind<V> = [V] extends [boolean]
  ? "boolean"
  : [V] extends [AbortSignal]
    ? "signal"
    : [V] extends [(...args: never[]) => unknown]
      ? "function"
      : string extends V
        ? "string"
        : "checked";

/** Every option of `T`, with its type; the compiler refuses one too many, too few, or of another type. */
export type Keys<T> = { readonly [K in keyof T]-?: Kind<NonNullable<T[K]>> };

const kinds = { boolean: "true or false", string: "a string", function: "a function", signal: "an AbortSignal" };

/** @internal An object of options or the like: a literal, or an instance of no built-in class. */
export function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) return true;
  return Object.prototype.toString.call(value) === "[object Object]" && !(value instanceof Tensor);
}

/**
 * An object of known options, or a `TypeError`. Values of undefined count as left out; what a prototype has beside is ignored.
 *
 * @param name  of the object, for messages   @param of  what has these options only, as ` of kind "plain"`
 */
export function checkOptions<T>(fn: string, options: T, keys: Keys<T>, name = "options", of = ""): void {
  const known: Readonly<Record<string, string>> = keys;
  if (!isPlain(options))
    throw new ArgumentTypeError(
      `${fn}: ${name} is ${show(options)}, want an object with ${Object.keys(keys).join(", ")}`,
    );
  for (const key in options) {
    const value = options[key];
    const kind = known[key];
    // What is right, first and fast: this runs in every op.
    if (value === undefined || (kind === "checked" ? value !== null : kind === typeof value)) continue;
    if (!Object.hasOwn(known, key)) {
      if (Object.hasOwn(options, key)) throw unknownOption(fn, key, Object.keys(keys), name, of);
    } else if (kind !== "signal" || typeof (value as Partial<AbortSignal> | null)?.aborted !== "boolean") {
      const want = kinds[kind as keyof typeof kinds] ?? "a value, or the option left out";
      throw new ArgumentTypeError(`${fn}: ${name}.${key} is ${show(value)}, want ${want}`);
    }
  }
}

function unknownOption(fn: string, key: string, known: readonly string[], name: string, of: string): Error {
  const path = /^[\w$]{1,40}$/.test(key) ? `${name}.${key}` : `${name}[${show(key)}]`;
  const near = nearest(key, known);
  const hint = near.length ? `, did you mean ${near.join(" or ")}?` : ".";
  return new ArgumentTypeError(`${fn}: ${path} is not an option${of}${hint} Options: ${known.join(", ")}`);
}

/** An integer in [min, max], or a `RangeError`. */
export function checkInteger(fn: string, argument: string, value: unknown, min: number, max = 2 ** 53 - 1): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max) return value;
  const range = max === 2 ** 53 - 1 ? `at least ${min}` : `from ${min} to ${max}`;
  throw new ArgumentRangeError(`${fn}: ${argument} is ${show(value)}, want an integer ${range}`);
}

/** A finite number in [min, max], or a `RangeError`. */
export function checkNumber(
  fn: string,
  argument: string,
  value: unknown,
  min = -Number.MAX_VALUE,
  max = Number.MAX_VALUE,
): number {
  if (typeof value === "number" && Number.isFinite(value) && value >= min && value <= max) return value;
  const low = min === -Number.MAX_VALUE ? "" : ` at least ${min}`;
  const high = max === Number.MAX_VALUE ? "" : `${low ? " and" : ""} at most ${max}`;
  throw new ArgumentRangeError(`${fn}: ${argument} is ${show(value)}, want a finite number${low}${high}`);
}

/** One of the listed strings, or a `TypeError`. */
export function checkOneOf<T extends string>(fn: string, argument: string, value: unknown, allowed: readonly T[]): T {
  if (typeof value === "string" && (allowed as readonly string[]).includes(value)) return value as T;
  throw new ArgumentTypeError(
    `${fn}: ${argument} is ${show(value)}, want ${allowed.map((a) => JSON.stringify(a)).join(" or ")}`,
  );
}

/** A live tensor, optionally of given dtypes and rank. */
export function checkTensor(
  fn: string,
  argument: string,
  value: unknown,
  options: { dtype?: readonly DType[]; minRank?: number } = {},
): Tensor {
  if (!(value instanceof Tensor)) throw new ArgumentTypeError(`${fn}: ${argument} is ${show(value)}, want a Tensor`);
  if (value.disposed) throw new DisposedError(`${fn}: ${argument} was disposed`);
  if (options.dtype && !options.dtype.includes(value.dtype))
    throw new DTypeError(`${fn}: ${argument} is ${value.dtype}, want ${options.dtype.join(" or ")}`);
  if (options.minRank !== undefined && value.shape.length < options.minRank)
    throw new ShapeError(
      `${fn}: ${argument} has shape [${value.shape.join(", ")}], want at least ${options.minRank} axes`,
    );
  return value;
}

/** Throws unless `tensor` has exactly this shape. */
export function checkShape(fn: string, argument: string, tensor: Tensor, shape: readonly number[]): void {
  if (tensor.shape.length !== shape.length || tensor.shape.some((d, i) => d !== shape[i]))
    throw new ShapeError(`${fn}: ${argument} has shape [${tensor.shape.join(", ")}], want [${shape.join(", ")}]`);
}

/** Throws unless all tensors live on one device. */
export function checkSameDevice(fn: string, named: Record<string, Tensor | undefined>): void {
  let first: [string, Tensor] | undefined;
  for (const [name, tensor] of Object.entries(named)) {
    if (!tensor) continue;
    if (!first) first = [name, tensor];
    else if (tensor.device !== first[1].device)
      throw new DeviceError(
        `${fn}: ${name} is on ${tensor.device} but ${first[0]} is on ${first[1].device}; move one with .to(device)`,
      );
  }
}

/** Product of extents, checked against 2^53. */
export function sizeOf(fn: string, argument: string, shape: readonly number[]): number {
  if (!Array.isArray(shape))
    throw new ArgumentTypeError(`${fn}: ${argument} is ${show(shape)}, want an array of extents`);
  // An extent of 0 must not hide an overflow of the others, so it counts as 1 for the bound.
  let size = 1;
  let bound = 1;
  for (const [axis, extent] of shape.entries()) {
    checkInteger(fn, `${argument}[${axis}]`, extent, 0);
    size *= extent;
    bound *= Math.max(extent, 1);
    if (bound > 2 ** 53 - 1)
      throw new ArgumentRangeError(`${fn}: ${argument} [${shape.join(", ")}] has more than 2^53 elements`);
  }
  return size;
}

/** An axis of a tensor of `rank` axes as an index from 0; negative ones count from the end. */
export function checkAxis(fn: string, argument: string, axis: unknown, rank: number): number {
  if (rank === 0) throw new ArgumentRangeError(`${fn}: ${argument} is ${show(axis)}, but a scalar has no axes`);
  const value = checkInteger(fn, argument, axis, -rank, rank - 1);
  return value < 0 ? value + rank : value;
}

/** Throws unless `tensor`'s shape ends `shape`: the only broadcasting there is repeats over leading axes. */
export function checkSuffix(fn: string, argument: string, tensor: Tensor, shape: readonly number[]): void {
  const skip = shape.length - tensor.shape.length;
  if (skip < 0 || tensor.shape.some((d, i) => d !== shape[skip + i]))
    throw new ShapeError(
      `${fn}: ${argument} has shape [${tensor.shape.join(", ")}], want [${shape.join(", ")}] or the end of it`,
    );
}

/** Throws unless `tensor` has this dtype. */
export function checkSameDType(fn: string, argument: string, tensor: Tensor, dtype: DType, like: string): void {
  if (tensor.dtype !== dtype)
    throw new DTypeError(`${fn}: ${argument} is ${tensor.dtype}, want ${dtype} like ${like}; see ops.cast`);
}
