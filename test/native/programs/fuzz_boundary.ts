/**
 * Calls every function of the addon with arguments that are wrong in one place or in all: each call must return, or throw an
 * Error with a code. fuzz_boundary.ts <runs per export> <seed>
 */
import fc from "fast-check";
import { errorFromCode } from "../../../lib/errors.ts";
import { type Handle, type NativeGraph, native } from "../../../lib/native.ts";
import { type ArgumentSpec, isHandleSpec, recordCalls, runtimeCalls } from "../../support/recorded_calls.ts";
import "../../support/default_device.ts";

const runs = Number(process.argv[2] ?? 40);
const seed = Number(process.argv[3] ?? 1);
const functions = native as unknown as Record<string, (...args: unknown[]) => unknown>;
const budget = 1 << 26;

let made: Handle[] = [];
const handle = (dtype: number, size: number): Handle => {
  const made1 = native.tensorEmpty("cpu", dtype, size);
  made.push(made1);
  return made1;
};
const typedArrays = [
  Int8Array,
  Uint8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
];

/** Wrong, odd and right values by name; each is made anew, since calls may use them up. */
const zoo: Record<string, () => unknown> = {
  undefined: () => undefined,
  null: () => null,
  true: () => true,
  "empty string": () => "",
  cpu: () => "cpu",
  cuda: () => "cuda",
  "lone surrogate": () => "\ud800",
  symbol: () => Symbol("x"),
  bigint: () => 2n ** 60n,
  function: () => () => 1,
  object: () => ({}),
  "object like a handle": () => ({ dispose() {} }),
  "object that throws": () => ({
    valueOf() {
      throw new Error("valueOf was called");
    },
  }),
  date: () => new Date(),
  "disposed handle": () => {
    const h = handle(0, 4);
    h.dispose();
    return h;
  },
  "handle made with new": () => new (handle(0, 4).constructor as new () => Handle)(),
  graph: () => {
    native.beginCapture("cpu");
    const graph = native.endCapture("cpu");
    made.push(graph);
    return graph;
  },
  "heir of a handle": () => Object.create(handle(0, 4)),
  "proxy of a handle": () => new Proxy(handle(0, 4), {}),
  "array of handles": () => [handle(0, 4)],
  "array of strings": () => ["1", "2"],
  "array of NaN": () => [Number.NaN],
  "array with holes": () => new Array(3),
  "long array": () => Array.from({ length: 100 }, () => 1),
  "huge array": () => new Array(2 ** 32 - 1),
  "array that grows while it is read": () => {
    const list = [1, 1, 1];
    Object.defineProperty(list, 0, {
      get() {
        for (let i = 0; i < 1000; i++) list.push(2 ** 40);
        return 1;
      },
    });
    return list;
  },
  "array that disposes everything while it is read": () =>
    Object.defineProperty([1], 0, {
      get() {
        for (const h of made) h.dispose();
        native.tensorEmpty("cpu", 0, 1 << 10).dispose();
        return 1;
      },
    }),
  "array that throws": () =>
    Object.defineProperty([1], 0, {
      get() {
        throw Object.assign(new Error("getter"), { code: "ERR_TEST" });
      },
    }),
  ArrayBuffer: () => new ArrayBuffer(16),
  DataView: () => new DataView(new ArrayBuffer(16)),
  "detached Float32Array": () => {
    const array = new Float32Array(4);
    structuredClone(array.buffer, { transfer: [array.buffer] });
    return array;
  },
  "shared Float32Array": () => new Float32Array(new SharedArrayBuffer(16)),
  "shrunken Float32Array": () => {
    const buffer = new (
      ArrayBuffer as unknown as new (
        n: number,
        o: object,
      ) => ArrayBuffer & { resize(n: number): void }
    )(64, { maxByteLength: 128 });
    const array = new Float32Array(buffer, 16, 4);
    buffer.resize(8);
    return array;
  },
  subarray: () => new Float32Array(100).subarray(3, 7),
};
for (const value of [
  0,
  -0,
  1,
  2,
  3,
  4,
  5,
  8,
  12,
  19,
  64,
  65,
  255,
  257,
  -1,
  0.5,
  1e-300,
  Number.NaN,
  Infinity,
  -Infinity,
])
  zoo[`number ${Object.is(value, -0) ? "-0" : value}`] = () => value;
for (const power of [16, 31, 32, 52, 53, 54, 63, 64, 200])
  for (const sign of [1, -1]) zoo[`number ${sign * 2}^${power}`] = () => sign * 2 ** power;
for (const dtype of [0, 1, 2])
  for (const size of [0, 1, 3, 4, 12, 16, 19, 95, 380, 4096])
    zoo[`handle ${dtype} ${size}`] = () => handle(dtype, size);
for (const Kind of typedArrays) zoo[Kind.name] = () => new Kind(4);

const keys = Object.keys(zoo);
const number = fc.constantFrom(...keys.filter((k) => k.startsWith("number")));
const any = fc.constantFrom(...keys);

function materialise(spec: ArgumentSpec): unknown {
  if (spec !== null && isHandleSpec(spec)) return handle(spec.dtype, spec.size);
  return spec;
}

function reset(): void {
  native.setErrorFactory(errorFromCode);
  native.failAllocation(-1);
  native.setMemoryBudget(budget);
  for (const h of made) h.dispose();
  made = [];
}

const totals = { exports: 0, calls: 0, errors: 0, rejections: 0 };

function expectTyped(error: unknown): void {
  totals.errors++;
  const { code } = error as { code?: unknown };
  if (!(error instanceof Error) || typeof code !== "string" || !code.startsWith("ERR_") || code === "ERR_INTERNAL")
    throw new Error(`not a typed error: ${error instanceof Error ? error.stack : String(error)}`);
}

/** One call; afterwards everything queued has run, and its errors are typed too. */
function attempt(name: string, args: readonly unknown[]): void {
  totals.calls++;
  try {
    const result = functions[name]!(...args);
    if (result instanceof Promise)
      result.catch((error) => {
        totals.rejections++;
        expectTyped(error);
      });
    else if (typeof (result as Handle | undefined)?.dispose === "function") made.push(result as Handle);
  } catch (error) {
    if (name !== "setErrorFactory") expectTyped(error);
  }
  native.setErrorFactory(errorFromCode);
  native.failAllocation(-1);
  native.setMemoryBudget(budget);
  native.cancelCapture("cpu");
  const canary = handle(0, 1);
  for (let wait = true; wait; ) {
    try {
      native.tensorReadSync(canary, false);
      wait = false;
    } catch (error) {
      expectTyped(error);
    }
  }
  reset();
}

async function main(): Promise<void> {
  const calls = recordCalls();
  for (const [name, args] of Object.entries(runtimeCalls)) if (!calls.has(name)) calls.set(name, [args]);
  const exported = Object.keys(functions).filter((name) => typeof functions[name] === "function");
  const missing = exported.filter((name) => !calls.has(name));
  if (missing.length > 0) throw new Error(`no valid call known of ${missing.join(", ")}`);
  reset();
  for (const [name, templates] of calls) {
    totals.exports++;
    const arity = Math.max(...templates.map((t) => t.length));
    // Wrong in one to three places of a valid call; wrong everywhere; or the right kinds with no elements and odd numbers.
    const almost = fc.record({
      template: fc.constantFrom(...templates.keys()),
      changes: fc.array(fc.tuple(fc.nat({ max: arity }), any), { minLength: 0, maxLength: 3 }),
    });
    const wild = fc.record({ values: fc.array(any, { maxLength: arity + 1 }) });
    const empty = fc.record({
      template: fc.constantFrom(...templates.keys()),
      numbers: fc.array(number, { maxLength: arity }),
    });
    fc.assert(
      fc.property(fc.oneof({ weight: 3, arbitrary: almost }, { weight: 1, arbitrary: wild }, empty), (plan) => {
        let args: unknown[];
        if ("values" in plan) args = plan.values.map((key) => zoo[key]!());
        else if ("changes" in plan) {
          args = templates[plan.template]!.map(materialise);
          for (const [at, key] of plan.changes) args[at] = zoo[key]!();
        } else {
          let next = 0;
          args = templates[plan.template]!.map((spec) => {
            if (spec !== null && isHandleSpec(spec)) return handle(spec.dtype, 0);
            return typeof spec === "number" && next < plan.numbers.length
              ? zoo[plan.numbers[next++]!]!()
              : materialise(spec);
          });
        }
        attempt(name, args);
      }),
      { numRuns: runs, seed },
    );
    await new Promise((resolve) => setImmediate(resolve));
  }
  const graph = zoo.graph!() as NativeGraph;
  for (const method of [handle(0, 4).dispose, graph.dispose, graph.launch])
    for (const key of keys) {
      try {
        method.call(zoo[key]!() as NativeGraph);
      } catch (error) {
        if (!(error instanceof Error)) throw new Error(`a method of a handle, on ${key}, threw ${String(error)}`);
      }
    }
  reset();
  await native.synchronize("cpu");
  const { tensors, bytes } = native.memory();
  console.log(JSON.stringify({ ...totals, tensors, bytes }));
}

process.on("unhandledRejection", (error) => {
  console.error(error);
  process.exit(3);
});
main().catch((error) => {
  console.error(error);
  process.exit(2);
});
