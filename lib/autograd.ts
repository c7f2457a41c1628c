/**
 * Autograd-lite. The tape lives for one `valueAndGrad` call; it is an array, and backward is a loop over it in reverse.
 * Activations are freed as soon as the node that made them has run backward. No higher-order gradients, no in-place ops.
 */
import { ArgumentTypeError, ShapeError } from "./errors.ts";
import { native } from "./native.ts";
import { adopt, collect, rejectPromise, setRecording } from "./scope.ts";
import { isTensor, Tensor } from "./tensor.ts";
import { checkOptions, checkShape, type Keys, show } from "./validate.ts";

type Gradient = Tensor | undefined;

/** @internal One recorded step. `run` reads gradients of its outputs from `grads` and adds those of its inputs. */
export interface TapeNode {
  outputs: readonly Tensor[];
  /** Tensors to free after `run`: saved intermediates that nothing else owns. */
  owned: readonly Tensor[];
  run(grads: Gradients): void;
}

/** @internal A list of nodes and the set of tensors that depend on a parameter. Nested tapes share the set. */
export class Tape {
  readonly nodes: TapeNode[] = [];
  constructor(readonly tracked: Set<Tensor>) {}

  /** Runs all nodes in reverse, freeing each one's outputs and intermediates once it is done. */
  backward(grads: Gradients): void {
    for (let i = this.nodes.length - 1; i >= 0; i--) {
      const node = this.nodes[i]!;
      if (node.outputs.some((t) => grads.has(t))) node.run(grads);
      for (const output of node.outputs) {
        grads.drop(output);
        if (!output.kept && output !== grads.value) output.dispose();
      }
      for (const tensor of node.owned) if (!tensor.kept) tensor.dispose();
    }
    this.nodes.length = 0;
  }
}

/** @internal Gradients by tensor. Every stored gradient is a handle of its own, so dropping one never harms another. */
export class Gradients {
  readonly #map = new Map<Tensor, Tensor>();
  constructor(readonly value: Tensor) {}

  has(tensor: Tensor): boolean {
    return this.#map.has(tensor);
  }

  get(tensor: Tensor): Gradient {
    return this.#map.get(tensor);
  }

  /** Adds `grad`, which the map takes over, to what `tensor` has. */
  add(tensor: Tensor, grad: Tensor): void {
    const old = this.#map.get(tensor);
    if (!old) {
      this.#map.set(tensor, grad);
      return;
    }
    const sum = Tensor.empty(old.shape, old.dtype, old.device);
    native.add(old.handle, grad.handle, sum.handle);
    old.dispose();
    grad.dispose();
    this.#map.set(tensor, sum);
  }

  /** Removes and returns the gradient of `tensor`; the caller owns it. */
  take(tensor: Tensor): Gradient {
    const grad = this.#map.get(tensor);
    this.#map.delete(tensor);
    return grad;
  }

  drop(tensor: Tensor): void {
    this.take(tensor)?.dispose();
  }
}

let active: Tape | undefined;

/** @internal The tape that records now, if any. */
export function activeTape(): Tape | undefined {
  return active;
}

/** @internal Runs `fn` with `tape` recording (or nothing recording). */
export function withTape<T>(tape: Tape | undefined, fn: () => T): T {
  const outer = active;
  active = tape;
  setRecording(tape !== undefined);
  try {
    return fn();
  } finally {
    active = outer;
    setRecording(outer !== undefined);
  }
}

/** Runs `fn` without recording: nothing in it contributes to gradients, and nothing is kept for backward. */
export function noGrad<T>(fn: () => T): T {
  return withTape(undefined, fn);
}

/**
 * The value of a scalar function and its gradients.
 *
 * All tensors created in `fn` are freed, except the value, the gradients, and what was passed to `keep`.
 *
 * @param fn      returns a tensor with one element; synchronous
 * @param params  tensors to differentiate by; one not used by `fn` gets zeros
 * @returns       [value, gradients in the order of params, each with its parameter's shape and dtype]
 * @throws {ShapeError} the value has more than one element   @throws {TypeError} fn returns no tensor, or a promise
 */
export function valueAndGrad(fn: () => Tensor, params: readonly Tensor[]): [value: Tensor, grads: Tensor[]] {
  const name = "valueAndGrad";
  if (!Array.isArray(params))
    throw new ArgumentTypeError(`${name}: params is ${show(params)}, want an array of tensors`);
  for (const [i, p] of params.entries()) {
    if (!isTensor(p)) throw new ArgumentTypeError(`${name}: params[${i}] is ${show(p)}, want a Tensor`);
    p.handle;
  }
  const { result, created } = collect(() => {
    const tape = new Tape(new Set(params));
    const value = withTape(tape, fn);
    rejectPromise(name, value);
    if (!isTensor(value)) throw new ArgumentTypeError(`${name}: fn returned ${show(value)}, want a Tensor`);
    if (value.size !== 1)
      throw new ShapeError(`${name}: fn returned a tensor [${value.shape.join(", ")}], want one element`);
    const grads = new Gradients(value);
    return noGrad(() => {
      if (tape.tracked.has(value)) {
        grads.add(value, Tensor.ones(value.shape, { dtype: value.dtype, device: value.device }));
        tape.backward(grads);
      }
      const out = params.map((p, i) => {
        const first = params.indexOf(p);
        if (first < i) return undefined;
        return grads.take(p) ?? Tensor.zeros(p.shape, { dtype: p.dtype, device: p.device });
      });
      return { value, grads: params.map((p, i) => out[i] ?? out[params.indexOf(p)]!.view(p.shape)) };
    });
  });
  const survivors = new Set<Tensor>([result.value, ...result.grads]);
  for (const tensor of [...created])
    if (survivors.has(tensor)) adopt(tensor);
    else if (!tensor.kept) tensor.dispose();
  return [result.value, result.grads];
}

/** What `forward` and `backward` of an op share. */
export interface OpContext {
  /** Per argument: does its gradient matter? All false when nothing records. */
  readonly needs: readonly boolean[];
  /** What `save` was given, in the same order. */
  readonly saved: readonly Tensor[];
  /** Keeps tensors (arguments, results or intermediates) for backward. */
  save(...tensors: Tensor[]): void;
}

type Argument = Tensor | undefined;

/** A differentiable op, forward and backward side by side. */
export interface OpDefinition<A extends readonly Argument[], O, R extends Tensor | Tensor[]> {
  /** Stands in error messages. */
  name: string;
  /** Computes the result; runs unrecorded. Intermediates that are neither returned nor saved are freed. */
  forward(context: OpContext, args: A, options: O): R;
  /**
   * Returns one gradient per argument (undefined for none). `grads` has one entry per result; one that the
   * loss does not depend on is undefined.
   */
  backward(context: OpContext, grads: Gradient[], options: O): Gradient[];
}

const opKeys: Keys<OpDefinition<[], void, Tensor>> = { name: "string", forward: "function", backward: "function" };

/**
 * Makes a differentiable function from a forward and a backward.
 *
 * ```ts
 * const cube = defineOp<[x: Tensor]>({
 *   name: "cube",
 *   forward(ctx, [x]) { ctx.save(x); return ops.mul(x, ops.mul(x, x)); },
 *   backward(ctx, [g]) { const [x] = ctx.saved; return [ops.mul(g!, ops.scale(ops.mul(x!, x!), 3))]; },
 * });
 * const y = cube([x]);
 * ```
 *
 * @throws {TypeError} at once: not an op's name, forward and backward, or something beside them
 * @throws {ShapeError} when backward returns the wrong number of gradients, or one of the wrong shape
 */
export function defineOp<A extends readonly Argument[], O = void, R extends Tensor | Tensor[] = Tensor>(
  op: OpDefinition<A, O, R>,
): (args: A, options: O) => R {
  const name = "defineOp";
  checkOptions(name, op as object, opKeys, "op");
  for (const key of Object.keys(opKeys) as (keyof typeof opKeys)[])
    if (op[key] === undefined) throw new ArgumentTypeError(`${name}: op.${key} is undefined, want a ${opKeys[key]}`);
  return (args: A, options: O): R => {
    if (!Array.isArray(args))
      throw new ArgumentTypeError(`${op.name}: args is ${show(args)}, want an array of tensors`);
    const tape = active;
    const needs = args.map((a) => a !== undefined && tape?.tracked.has(a) === true);
    const records = needs.includes(true);
    const saved: Tensor[] = [];
    const context: OpContext = {
      needs,
      saved,
      save: (...tensors) => {
        if (records) saved.push(...tensors);
      },
    };
    const { result, created } = collect(() => noGrad(() => op.forward(context, args, options)));
    const outputs: readonly Tensor[] = Array.isArray(result) ? result : [result as Tensor];
    const owned: Tensor[] = [];
    for (const tensor of [...created])
      if (outputs.includes(tensor)) adopt(tensor);
      else if (saved.includes(tensor)) {
        owned.push(tensor);
        adopt(tensor);
      } else if (!tensor.kept) tensor.dispose();
    if (!records || !tape) return result;
    for (const output of outputs) tape.tracked.add(output);
    tape.nodes.push({ outputs, owned, run: (grads) => runNode(op, context, args, options, outputs, grads) });
    return result;
  };
}

/** @internal Runs one op's backward and adds what it returns; a gradient the op did not create is re-handled first. */
export function runNode<A extends readonly Argument[], O, R extends Tensor | Tensor[]>(
  op: OpDefinition<A, O, R>,
  context: OpContext,
  args: A,
  options: O,
  outputs: readonly Tensor[],
  grads: Gradients,
): void {
  // The checks stand inside the scope, so that a refused backward leaves nothing behind.
  const { result, created } = collect(() => {
    const list = op.backward(
      context,
      outputs.map((o) => grads.get(o)),
      options,
    );
    if (list.length !== args.length)
      throw new ShapeError(`${op.name}: backward returned ${list.length} gradients, want ${args.length}`);
    for (const [i, grad] of list.entries()) {
      const arg = args[i];
      if (grad && arg && context.needs[i]) checkShape(op.name, `backward's gradient ${i}`, grad, arg.shape);
    }
    return list;
  });
  const used = new Set<Tensor>();
  for (const [i, grad] of result.entries()) {
    const arg = args[i];
    if (!grad || !arg || !context.needs[i]) continue;
    const fresh = created.has(grad) && !used.has(grad);
    used.add(grad);
    const own = fresh ? grad : grad.view(grad.shape);
    adopt(own);
    grads.add(arg, own);
  }
  for (const tensor of [...created]) if (!used.has(tensor)) tensor.dispose();
}
