/** Every allocation of every op fails once: the error is typed, nothing leaks, the next call is right. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import { memory, ops, optim, setMemoryBudget, setSeed, Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { everyOp, inputsOf, lossOf, tinyTraining } from "../support/every_op.ts";
import { collectGarbage } from "../support/garbage.ts";
import { assertBitwiseEqual } from "../support/tolerance.ts";

afterEach(() => {
  native.failAllocation(-1);
  setMemoryBudget(Number.POSITIVE_INFINITY);
});

/** Runs `fn` with allocation 0, 1, 2, … failing, until it runs through; returns how many it makes. */
function failEach(fn: () => void, after: (failed: number) => void): number {
  for (let k = 0; ; k++) {
    const before = memory();
    native.failAllocation(k);
    let error: (Error & { code?: string }) | undefined;
    try {
      fn();
    } catch (caught) {
      error = caught as Error;
    } finally {
      native.failAllocation(-1);
    }
    const { tensors, bytes } = memory();
    expect({ tensors, bytes }, `after failing allocation ${k}`).toEqual({
      tensors: before.tensors,
      bytes: before.bytes,
    });
    if (!error) return k;
    expect({ name: error.name, code: error.code }, error.stack).toEqual({
      name: "OutOfMemoryError",
      code: "ERR_OUT_OF_MEMORY",
    });
    after(k);
  }
}

describe("each allocation fails once", () => {
  test.each(everyOp)("$name, forward and backward", (op) => {
    const inputs = inputsOf(op);
    const floats = inputs.filter((t) => t.dtype !== "int32");
    const run = (): Float32Array[] =>
      tidy(() => {
        const [value, grads] = valueAndGrad(() => lossOf(op, inputs), floats);
        return [value, ...grads].map((t) => t.dataSync() as Float32Array);
      });
    const want = run();
    const allocations = failEach(run, (k) => {
      for (const [i, values] of run().entries()) assertBitwiseEqual(values, want[i]!, `result ${i} after failure ${k}`);
    });
    expect(allocations).toBeGreaterThan(2);
    for (const t of inputs) t.dispose();
  });

  test("a training step: the weights are those of an untroubled run", () => {
    const weights = (trouble: boolean) => {
      const training = tinyTraining();
      const { model, optimizer, tokens, targets } = training;
      let steps = 0;
      const step = () =>
        tidy(() => {
          setSeed(3);
          const [, grads] = valueAndGrad(() => model.loss(tokens, targets), model.parameters());
          optim.clipGradNorm(grads, 1);
          if (trouble && steps === 0) return;
          optimizer.step(grads);
        });
      if (trouble) expect(failEach(step, () => {})).toBeGreaterThan(50);
      steps = 1;
      for (let i = 0; i < 3; i++) step();
      const values = model.parameters().map((p) => p.dataSync() as Float32Array);
      training.dispose();
      return values;
    };
    const want = weights(false);
    for (const [i, values] of weights(true).entries()) assertBitwiseEqual(values, want[i]!, `parameter ${i}`);
  });

  test("a model and its optimizer: a failed construction is typed, and the collector frees what it had made", async () => {
    const before = memory().tensors;
    let allocations = 0;
    for (let error: { code?: string } | undefined = {}; error; allocations++) {
      native.failAllocation(allocations);
      try {
        tinyTraining().dispose();
        error = undefined;
      } catch (caught) {
        error = caught as { code?: string };
        expect(error.code).toBe("ERR_OUT_OF_MEMORY");
      }
      native.failAllocation(-1);
    }
    expect(allocations).toBeGreaterThan(20);
    for (let i = 0; i < 20 && memory().tensors > before; i++) {
      collectGarbage();
      await nextTurn();
    }
    expect(memory().tensors).toBe(before);
  });

  test("creation, conversion and reading", () => {
    const x = Tensor.from([1, 2, 3]);
    failEach(
      () =>
        tidy(() => {
          const y = Tensor.from([1, 2, 3], [3], { dtype: "bfloat16" });
          Tensor.randn([5]);
          Tensor.full([2, 2], 1, { dtype: "int32" });
          y.to("float32").dataSync();
          x.to("bfloat16");
        }),
      () => {},
    );
    expect([...x.dataSync()]).toEqual([1, 2, 3]);
    x.dispose();
  });
});

describe("setMemoryBudget", () => {
  test("refuses what would exceed it, lets through what fits, names both in the message", () => {
    const base = memory().bytes;
    setMemoryBudget(base + 4096);
    using fits = Tensor.zeros([1024]);
    expect(() => Tensor.zeros([1])).toThrow(/out of memory: 4 bytes wanted, \d+ live, budget \d+/);
    fits.dispose();
    using again = Tensor.ones([1024]);
    expect(again.dataSync()[1023]).toBe(1);
    setMemoryBudget(Number.POSITIVE_INFINITY);
    using more = Tensor.zeros([2048]);
    expect(more.size).toBe(2048);
  });

  test("a budget below what is live refuses everything but frees nothing", () => {
    using x = Tensor.ones([100]);
    setMemoryBudget(0);
    expect(() => ops.add(x, x)).toThrow(expect.objectContaining({ code: "ERR_OUT_OF_MEMORY" }));
    expect(x.dataSync()[99]).toBe(1);
  });

  test.each([-1, 1.5, Number.NaN, "1" as never])("refuses a budget of %s", (bytes) => {
    expect(() => setMemoryBudget(bytes)).toThrow(expect.objectContaining({ code: "ERR_RANGE" }));
  });
});
