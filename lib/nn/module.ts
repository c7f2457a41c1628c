/** Modules own parameters under torch-style dotted names, so that a checkpoint's names are the paths in the code. */
import { activeTape } from "../autograd.ts";
import type { DType } from "../dtype.ts";
import { CheckpointError } from "../errors.ts";
import { readSafetensors, writeSafetensors } from "../files/safetensors.ts";
import { native } from "../native.ts";
import * as ops from "../ops/index.ts";
import { nextSeed } from "../random.ts";
import { Tensor } from "../tensor.ts";
import { checkOptions, checkTensor, type Keys } from "../validate.ts";

interface ParameterOptions {
  /** Whether weight decay applies; default true. */
  decay?: boolean;
}

const optionKeys: Keys<ParameterOptions> = { decay: "boolean" };

/**
 * A tensor that training changes. It outlives `tidy` and `valueAndGrad`; `Module.dispose` (or its own `dispose`) frees it.
 */
export class Parameter extends Tensor {
  /** Whether weight decay applies: false for biases, norm weights, and a connection's α and b. */
  readonly decay: boolean;

  /** @param values  initial values; taken over, that is, disposed   @throws {TypeError} no tensor, an unknown option */
  constructor(values: Tensor, options: ParameterOptions = {}) {
    checkTensor("Parameter", "values", values);
    checkOptions("Parameter", options, optionKeys);
    super(native.tensorView(values.handle, 0, values.size), values.shape, values.dtype, values.device);
    values.dispose();
    this.decay = options.decay ?? true;
    this.markKept();
  }
}

/** Base of all modules: finds the parameters in its own fields, in nested modules and in arrays of them. */
export abstract class Module {
  /** @internal What is searched for parameters; the fields, by default. */
  protected members(): Iterable<[string, unknown]> {
    return Object.entries(this);
  }

  /** Parameters by dotted name ("blocks.0.attn.qkv.weight"), in order of definition; a tied weight is listed once. */
  namedParameters(): Map<string, Parameter> {
    const found = new Map<string, Parameter>();
    const seen = new Set<Parameter>();
    const visit = (name: string, value: unknown): void => {
      if (value instanceof Parameter) {
        if (!seen.has(value)) found.set(name, value);
        seen.add(value);
      } else if (value instanceof Module) {
        for (const [key, member] of value.members()) visit(name ? `${name}.${key}` : key, member);
      } else if (Array.isArray(value)) {
        for (const [i, member] of value.entries()) visit(`${name}.${i}`, member);
      }
    };
    visit("", this);
    return found;
  }

  /** Parameters in the order of `namedParameters`. */
  parameters(): Parameter[] {
    return [...this.namedParameters().values()];
  }

  /** The live tensors by name, as `save` writes them. */
  stateDict(): Map<string, Tensor> {
    return this.namedParameters();
  }

  /** Number of trainable values. */
  parameterCount(): number {
    return this.parameters().reduce((sum, p) => sum + p.size, 0);
  }

  /**
   * Writes all parameters to a safetensors file, atomically: the old file or the new one is there, never a part. Wait for it
   * before the next step or `dispose`: parameters are read a few at a time.
   *
   * @param metadata  strings kept in the header
   * @throws {CheckpointError} the file cannot be written; nothing half-written stays
   */
  async save(file: string, metadata: Record<string, string> = {}): Promise<void> {
    await writeSafetensors(file, this.stateDict(), metadata);
  }

  /**
   * Replaces all parameters by those of a safetensors file. Nothing is changed unless every name, shape and dtype fits.
   *
   * @returns the file's metadata
   * @throws {CheckpointError} the file is missing, damaged, or does not fit the model; the message names the first misfit
   */
  async load(file: string): Promise<Record<string, string>> {
    const { tensors, metadata } = await readSafetensors(file);
    const own = this.namedParameters();
    for (const name of own.keys())
      if (!tensors.has(name)) throw new CheckpointError(`Module.load: ${file} lacks "${name}", which the model has`);
    for (const [name, entry] of tensors) {
      const parameter = own.get(name);
      if (!parameter) throw new CheckpointError(`Module.load: ${file} has "${name}", which the model lacks`);
      const want = `${parameter.dtype} [${parameter.shape.join(", ")}]`;
      const got = `${entry.dtype} [${entry.shape.join(", ")}]`;
      if (got !== want) throw new CheckpointError(`Module.load: ${file}: "${name}" is ${got}, want ${want}`);
    }
    const fresh: [Parameter, Tensor][] = [];
    try {
      for (const [name, p] of own) {
        const entry = tensors.get(name)!;
        fresh.push([p, Tensor.from(entry.data, entry.shape, { dtype: entry.dtype, device: p.device })]);
      }
    } catch (error) {
      for (const [, tensor] of fresh) tensor.dispose();
      throw error;
    }
    for (const [parameter, tensor] of fresh) parameter.takeStorage(tensor);
    return metadata;
  }

  /** Frees all parameters. */
  dispose(): void {
    for (const parameter of this.parameters()) parameter.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * @internal Normal initial values N(0, std²). Zeros draw no seed, so that networks that differ only in connections with φ = 0
 * start with the same weights.
 */
export function normal(shape: readonly number[], std: number, device?: string): Tensor {
  return std === 0 ? Tensor.zeros(shape, { device }) : Tensor.randn(shape, { std, seed: nextSeed(), device });
}

/** @internal Master weights are float32; activations may be bfloat16. */
export function cast(x: Tensor, dtype: DType): Tensor {
  return x.dtype === dtype ? x : ops.cast(x, dtype);
}

/** @internal Dropout acts only while gradients are recorded, so evaluation and sampling need no mode switch. */
export function dropout(x: Tensor, p: number): Tensor {
  return p > 0 && activeTape() ? ops.dropout(x, p) : x;
}
