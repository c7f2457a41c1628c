/** The tensor: a contiguous, immutable block on one device. */

import { currentDevice } from "./device.ts";
import { checkDType, type DType, dtypeCode } from "./dtype.ts";
import { ArgumentTypeError, DisposedError, DTypeError, ShapeError } from "./errors.ts";
import { type Handle, native } from "./native.ts";
import { nextSeed } from "./random.ts";
import { adopt, collect, isRecording, rejectPromise, tensorsIn, track, untrack } from "./scope.ts";
import { checkInteger, checkNumber, checkOptions, type Keys, show, sizeOf } from "./validate.ts";

export interface TensorOptions {
  /** Element type; default float32, or int32 for an Int32Array and bfloat16 for a Uint16Array. */
  dtype?: DType;
  /** "cpu", "cuda", "cuda:1"; default is the device chosen with `setDevice`. */
  device?: string;
}

const tensorKeys: Keys<TensorOptions> = { dtype: "checked", device: "string" };

interface RandnOptions extends TensorOptions {
  /** Integer 0 … 2^53 − 1; default: the next one of the sequence started by `setSeed`. */
  seed?: number;
  /** Default 0. */
  mean?: number;
  /** Default 1. */
  std?: number;
}

const randnKeys: Keys<RandnOptions> = { ...tensorKeys, seed: "checked", mean: "checked", std: "checked" };

/**
 * A contiguous tensor of float32, bfloat16 or int32 on one device; immutable to its user.
 * Operations are queued and return at once; only `data`, `dataSync` and `item` wait.
 * Free it with `dispose()`, `using`, or an enclosing `tidy`.
 */
export class Tensor {
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly device: string;
  /** Number of elements. */
  readonly size: number;
  #handle: Handle | undefined;
  #kept = false;

  /** @internal Use `Tensor.from`, `zeros`, … */
  constructor(handle: Handle, shape: readonly number[], dtype: DType, device: string) {
    this.#handle = handle;
    this.shape = Object.freeze([...shape]);
    this.dtype = dtype;
    this.device = device;
    this.size = shape.reduce((a, b) => a * b, 1);
    track(this);
  }

  /** @internal A tensor whose elements are not yet written; the caller queues the kernel that writes all of them. */
  static empty(shape: readonly number[], dtype: DType, device: string): Tensor {
    const size = sizeOf("Tensor.empty", "shape", shape);
    return new Tensor(native.tensorEmpty(device, dtypeCode[dtype], size), shape, dtype, device);
  }

  /**
   * Copies values into a new tensor.
   *
   * @param values  Float32Array, Int32Array, number[], or Uint16Array of raw bfloat16 bits
   * @param shape   its product must equal `values.length`; default [values.length]
   * @throws {ShapeError} length and shape disagree   @throws {DTypeError} values do not fit dtype
   * @throws {TypeError} an argument of another type, an unknown option
   */
  static from(
    values: Float32Array | Int32Array | Uint16Array | readonly number[],
    shape?: readonly number[],
    options: TensorOptions = {},
  ): Tensor {
    const fn = "Tensor.from";
    checkOptions(fn, options, tensorKeys);
    const isArray = Array.isArray(values);
    if (!isArray && !(values instanceof Float32Array || values instanceof Int32Array || values instanceof Uint16Array))
      throw new ArgumentTypeError(
        `${fn}: values is ${show(values)}, want a Float32Array, Int32Array, Uint16Array (bfloat16 bits) or number[]`,
      );
    if (
      !isArray &&
      values.length === 0 &&
      (values as Float32Array).buffer.byteLength === 0 &&
      shape &&
      sizeOf(fn, "shape", shape) > 0
    )
      throw new ShapeError(`${fn}: values is empty (a detached buffer?), want ${sizeOf(fn, "shape", shape)} elements`);
    const natural: DType =
      values instanceof Int32Array ? "int32" : values instanceof Uint16Array ? "bfloat16" : "float32";
    const dtype = checkDType(fn, "options.dtype", options.dtype ?? natural);
    const dims = shape ?? [values.length];
    const size = sizeOf(fn, "shape", dims);
    if (size !== values.length)
      throw new ShapeError(`${fn}: values has ${values.length} elements, want ${size} for shape [${dims.join(", ")}]`);
    let array: Float32Array | Int32Array | Uint16Array;
    if (isArray) {
      for (const [i, v] of values.entries()) {
        if (typeof v !== "number") throw new ArgumentTypeError(`${fn}: values[${i}] is ${show(v)}, want a number`);
        if (dtype === "int32") checkInteger(fn, `values[${i}]`, v, -(2 ** 31), 2 ** 31 - 1);
      }
      array = dtype === "int32" ? Int32Array.from(values) : Float32Array.from(values);
    } else {
      array = values as Float32Array | Int32Array | Uint16Array;
      const fits = natural === dtype || (natural === "float32" && dtype === "bfloat16");
      if (!fits) throw new DTypeError(`${fn}: values is a ${array.constructor.name}, which does not hold ${dtype}`);
    }
    const device = options.device === undefined ? currentDevice() : currentDevice(options.device);
    return new Tensor(native.tensorFrom(device, dtypeCode[dtype], array), dims, dtype, device);
  }

  static #filled(fn: string, shape: readonly number[], value: number, options: TensorOptions): Tensor {
    checkOptions(fn, options, tensorKeys);
    const dtype = checkDType(fn, "options.dtype", options.dtype ?? "float32");
    if (typeof value !== "number") throw new ArgumentTypeError(`${fn}: value is ${show(value)}, want a number`);
    if (dtype === "int32") checkInteger(fn, "value", value, -(2 ** 31), 2 ** 31 - 1);
    const out = Tensor.empty(shape, dtype, currentDevice(options.device));
    native.fill(out.handle, value);
    return out;
  }

  /**
   * A tensor filled with one value.
   *
   * @throws {RangeError} a bad extent, or a value int32 cannot hold   @throws {TypeError} value is no number, an unknown option
   */
  static full(shape: readonly number[], value: number, options: TensorOptions = {}): Tensor {
    return Tensor.#filled("Tensor.full", shape, value, options);
  }

  /** Zeros, as `full` makes them. */
  static zeros(shape: readonly number[], options: TensorOptions = {}): Tensor {
    return Tensor.#filled("Tensor.zeros", shape, 0, options);
  }

  /** Ones, as `full` makes them. */
  static ones(shape: readonly number[], options: TensorOptions = {}): Tensor {
    return Tensor.#filled("Tensor.ones", shape, 1, options);
  }

  /**
   * Normal random values N(mean, std²), from a counter-based generator: equal on every device and thread count.
   *
   * @throws {RangeError} a bad extent, seed, mean or std   @throws {TypeError} an unknown option
   */
  static randn(shape: readonly number[], options: RandnOptions = {}): Tensor {
    const fn = "Tensor.randn";
    checkOptions(fn, options, randnKeys);
    const dtype = checkDType(fn, "options.dtype", options.dtype ?? "float32", ["float32", "bfloat16"]);
    const seed = options.seed === undefined ? nextSeed() : checkInteger(fn, "options.seed", options.seed, 0);
    const mean = checkNumber(fn, "options.mean", options.mean ?? 0);
    const std = checkNumber(fn, "options.std", options.std ?? 1, 0);
    const out = Tensor.empty(shape, dtype, currentDevice(options.device));
    native.randn(out.handle, seed, mean, std);
    return out;
  }

  /** @internal The native handle. @throws {DisposedError} */
  get handle(): Handle {
    if (!this.#handle)
      throw new DisposedError(`Tensor: a ${this.dtype} tensor [${this.shape.join(", ")}] was used after dispose()`);
    return this.#handle;
  }

  get disposed(): boolean {
    return this.#handle === undefined;
  }

  /** @internal True after `keep`: scopes and backward leave it alone. */
  get kept(): boolean {
    return this.#kept;
  }

  /** @internal */
  markKept(): void {
    this.#kept = true;
    untrack(this);
  }

  /** @internal A second handle on the same storage, with another shape and optionally an offset in elements. */
  view(shape: readonly number[], offset = 0): Tensor {
    return new Tensor(
      native.tensorView(
        this.handle,
        offset,
        shape.reduce((a, b) => a * b, 1),
      ),
      shape,
      this.dtype,
      this.device,
    );
  }

  /**
   * Reads the values once all queued work before this call is done. bfloat16 is widened to Float32Array.
   * Errors of queued work (an index out of range, say) surface here.
   */
  async data(): Promise<Float32Array | Int32Array> {
    return (await native.tensorRead(this.handle, false)) as Float32Array | Int32Array;
  }

  /** Like `data`, but blocks the event loop until the value is there. */
  dataSync(): Float32Array | Int32Array {
    return native.tensorReadSync(this.handle, false) as Float32Array | Int32Array;
  }

  /** Raw bfloat16 bits. @throws {DTypeError} not a bfloat16 tensor */
  async bits(): Promise<Uint16Array> {
    if (this.dtype !== "bfloat16") throw new DTypeError(`Tensor.bits: the tensor is ${this.dtype}, want bfloat16`);
    return (await native.tensorRead(this.handle, true)) as Uint16Array;
  }

  /** The value of a tensor with one element. @throws {ShapeError} more or fewer elements */
  async item(): Promise<number> {
    if (this.size !== 1)
      throw new ShapeError(`Tensor.item: the tensor has shape [${this.shape.join(", ")}], want one element`);
    return (await this.data())[0]!;
  }

  /** A copy in another dtype or on another device (itself, as a new tensor, when nothing changes). Not differentiable; see `ops.cast`. */
  to(target: string): Tensor {
    if (typeof target === "string" && target in dtypeCode) {
      const dtype = target as DType;
      if (dtype === this.dtype) return this.view(this.shape);
      const out = Tensor.empty(this.shape, dtype, this.device);
      native.cast(this.handle, out.handle);
      return out;
    }
    const device = currentDevice(target);
    if (device === this.device) return this.view(this.shape);
    return new Tensor(native.tensorCopy(this.handle, device), this.shape, this.dtype, device);
  }

  /** @internal Takes over the storage of `source`, which is disposed; how a model's parameters are loaded. */
  takeStorage(source: Tensor): void {
    if (source.dtype !== this.dtype || source.size !== this.size || source.device !== this.device)
      throw new ShapeError(`Tensor.takeStorage: source is ${source}, want the kind of ${this}`);
    const handle = native.tensorView(source.handle, 0, source.size);
    this.handle.dispose();
    this.#handle = handle;
    source.dispose();
  }

  /** Frees the memory for reuse. Idempotent; queued work that reads the tensor is not disturbed. */
  dispose(): void {
    if (!this.#handle) return;
    this.#handle.dispose();
    this.#handle = undefined;
    untrack(this);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  toString(): string {
    return `Tensor(${this.dtype}[${this.shape.join(", ")}] on ${this.device}${this.disposed ? ", disposed" : ""})`;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}

export const isTensor = (value: unknown): value is Tensor => value instanceof Tensor;

/**
 * Runs a synchronous `fn` and disposes every tensor created in it, except those it returns (alone, in arrays, maps or plain
 * objects) and those passed to `keep`. Inside `valueAndGrad` the tensors live until its end, since backward reads them.
 */
export function tidy<T>(fn: () => T): T {
  const { result, created } = collect(() => {
    const value = fn();
    rejectPromise("tidy", value);
    return value;
  });
  const survivors = tensorsIn(result, isTensor);
  for (const tensor of [...created])
    if (isRecording() || survivors.has(tensor)) adopt(tensor);
    else tensor.dispose();
  return result;
}

/** Exempts a tensor from every enclosing `tidy` and from the clean-up of `valueAndGrad`; you dispose it. Returns it. */
export function keep(tensor: Tensor): Tensor {
  if (!isTensor(tensor)) throw new ArgumentTypeError(`keep: tensor is ${show(tensor)}, want a Tensor`);
  tensor.markKept();
  return tensor;
}

// 64 MiB at most: what a device keeps for reads (native/cuda/context.cpp).
const elementsAtOnce = 2 ** 24;

/**
 * @internal Reads many tensors, a few at a time: each read under way holds a copy on the device and one in pinned memory.
 * They must stay as they are until it resolves.
 */
export async function readAll<T>(tensors: readonly Tensor[], read: (tensor: Tensor) => Promise<T>): Promise<T[]> {
  const values: T[] = [];
  while (values.length < tensors.length) {
    const start = values.length;
    let end = start;
    let elements = 0;
    do elements += tensors[end++]!.size;
    while (end < tensors.length && elements + tensors[end]!.size <= elementsAtOnce);
    values.push(...(await Promise.all(tensors.slice(start, end).map(read))));
  }
  return values;
}
