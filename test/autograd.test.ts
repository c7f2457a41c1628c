/** valueAndGrad, defineOp, noGrad, and what they free. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { defineOp, keep, memory, noGrad, ops, Tensor, tidy, valueAndGrad } from "../lib/index.ts";
import { expectError } from "./support/errors.ts";

let live = 0;
beforeEach(() => {
  live = memory().tensors;
});
afterEach(() => expect(memory().tensors, "live tensors").toBe(live));

/** Values of x · k with a gradient of k, and a record of what backward saw. */
const times = (k: number, seen: { needs?: readonly boolean[]; calls: number }) =>
  defineOp<[Tensor, Tensor?]>({
    name: "times",
    forward: (ctx, [x]) => {
      ctx.save(x);
      return ops.scale(x, k);
    },
    backward: (ctx, [g]) => {
      seen.calls++;
      seen.needs = ctx.needs;
      return [ops.scale(g!, k), undefined];
    },
  });

describe("valueAndGrad", () => {
  test("value and gradients of a polynomial", () => {
    using x = Tensor.from([1, 2, 3]);
    const [value, [g]] = valueAndGrad(() => ops.sum(ops.mul(ops.mul(x, x), x)), [x]);
    expect(value.dataSync()[0]).toBe(36);
    expect([...g!.dataSync()]).toEqual([3, 12, 27]);
    expect(memory().tensors).toBe(live + 3);
    value.dispose();
    g!.dispose();
  });

  test("a parameter used along two paths gets the sum; an unused one zeros; one given twice its gradient twice", () => {
    tidy(() => {
      const x = Tensor.from([2, 3]);
      const unused = Tensor.ones([2, 2], { dtype: "bfloat16" });
      const [, [a, zeros, b]] = valueAndGrad(() => ops.sum(ops.add(ops.mul(x, x), ops.scale(x, 10))), [x, unused, x]);
      expect([...a!.dataSync()]).toEqual([14, 16]);
      expect([...b!.dataSync()]).toEqual([14, 16]);
      expect([zeros!.shape, zeros!.dtype, [...zeros!.dataSync()]]).toEqual([[2, 2], "bfloat16", [0, 0, 0, 0]]);
      a!.dispose();
      expect([...b!.dataSync()]).toEqual([14, 16]);
    });
  });

  test("the value may be a parameter, or depend on none", () => {
    tidy(() => {
      const x = Tensor.from([4], []);
      const [value, [g]] = valueAndGrad(() => x, [x]);
      expect([value.dataSync()[0], g!.dataSync()[0]]).toEqual([4, 1]);
      const [other, [zero]] = valueAndGrad(() => Tensor.full([], 7), [x]);
      expect([other.dataSync()[0], zero!.dataSync()[0]]).toEqual([7, 0]);
      expect(x.disposed).toBe(false);
      const [none, empty] = valueAndGrad(() => ops.sum(x), []);
      expect([none.dataSync()[0], empty]).toEqual([4, []]);
    });
  });

  test("an unused branch runs no backward; needs says which arguments matter", () => {
    tidy(() => {
      const seen = { calls: 0, needs: undefined as readonly boolean[] | undefined };
      const op = times(3, seen);
      const x = Tensor.ones([2]);
      const c = Tensor.ones([2]);
      valueAndGrad(() => {
        op([x, c]);
        return ops.sum(x);
      }, [x]);
      expect(seen.calls).toBe(0);
      valueAndGrad(() => ops.sum(op([x, c])), [x]);
      expect(seen).toEqual({ calls: 1, needs: [true, false] });
      valueAndGrad(() => ops.sum(op([c, undefined])), [x]);
      expect(seen.calls).toBe(1);
    });
  });

  test("the same tensor count at the end, call after call, with tidy, views and splits inside", () => {
    using x = Tensor.randn([8, 16], { seed: 1 });
    using w = Tensor.randn([16], { seed: 2 });
    for (let step = 0; step < 5; step++) {
      const [value, grads] = valueAndGrad(() => {
        const h = tidy(() => ops.gelu(ops.mul(x, w)));
        const [a, b] = ops.split(h, 2);
        Tensor.ones([3]);
        return ops.mean(ops.mul(ops.concat([b!, a!]), ops.reshape(ops.rmsNorm(x, w), [8, 16])));
      }, [x, w]);
      expect(memory().tensors).toBe(live + 2 + 3);
      value.dispose();
      for (const g of grads) g.dispose();
    }
  });

  test("keep saves an intermediate, and its gradient is still right", () => {
    tidy(() => {
      const x = Tensor.from([1, 2]);
      let h: Tensor | undefined;
      const [, [g]] = valueAndGrad(() => {
        h = keep(ops.scale(x, 5));
        return ops.sum(ops.mul(h, h));
      }, [x]);
      expect([...g!.dataSync()]).toEqual([50, 100]);
      expect([...h!.dataSync()]).toEqual([5, 10]);
      h!.dispose();
    });
  });

  test("an exception in fn or in a backward frees everything, and recording stops", () => {
    const failing = defineOp<[Tensor]>({
      name: "failing",
      forward: (_, [x]) => ops.scale(x, 1),
      backward: () => {
        throw new Error("backward failed");
      },
    });
    using x = Tensor.ones([2]);
    expect(() =>
      valueAndGrad(() => {
        ops.scale(x, 2);
        throw new Error("forward failed");
      }, [x]),
    ).toThrow("forward failed");
    expect(() => valueAndGrad(() => ops.sum(failing([ops.scale(x, 2)])), [x])).toThrow("backward failed");
    expect(memory().tensors).toBe(live + 1);
    tidy(() => void ops.scale(x, 2));
    expect(memory().tensors).toBe(live + 1);
  });

  test("bad input", () => {
    using x = Tensor.ones([2]);
    const gone = Tensor.ones([2]);
    gone.dispose();
    const sum = () => ops.sum(x);
    expectError(() => valueAndGrad(() => ops.scale(x, 2), [x]), "ShapeError", "ERR_SHAPE", /\[2\], want one element/);
    expectError(() => valueAndGrad(() => 3 as never, [x]), "TypeError", "ERR_TYPE", /fn returned 3, want a Tensor/);
    expectError(() => valueAndGrad((async () => sum()) as never, [x]), "TypeError", "ERR_TYPE", /returned a promise/);
    expectError(() => valueAndGrad(sum, x as never), "TypeError", "ERR_TYPE", /params is a float32 tensor/);
    expectError(() => valueAndGrad(sum, [1 as never]), "TypeError", "ERR_TYPE", /params\[0\] is 1/);
    expectError(() => valueAndGrad(sum, [gone]), "DisposedError", "ERR_DISPOSED", /dispose/);
  });
});

describe("noGrad and defineOp", () => {
  test("noGrad contributes nothing and frees as tidy does outside a tape", () => {
    tidy(() => {
      const x = Tensor.from([3]);
      const [value, [g]] = valueAndGrad(() => {
        const constant = noGrad(() => ops.mul(x, x));
        return ops.sum(ops.mul(x, constant));
      }, [x]);
      expect([value.dataSync()[0], g!.dataSync()[0]]).toEqual([27, 9]);
    });
  });

  test("several results: a gradient for each, undefined where the loss needs none", () => {
    let received: boolean[] = [];
    const both = defineOp<[Tensor], void, Tensor[]>({
      name: "both",
      forward: (_, [x]) => [ops.scale(x, 2), ops.scale(x, 3)],
      backward: (_, grads) => {
        received = grads.map((g) => g !== undefined);
        const [a, b] = [grads[0] && ops.scale(grads[0], 2), grads[1] && ops.scale(grads[1], 3)];
        return [a && b ? ops.add(a, b) : (a ?? b)];
      },
    });
    tidy(() => {
      const x = Tensor.from([1]);
      const [, [g]] = valueAndGrad(() => {
        const [a, b] = both([x]);
        return ops.sum(ops.add(a!, b!));
      }, [x]);
      expect([g!.dataSync()[0], received]).toEqual([5, [true, true]]);
      const [, [h]] = valueAndGrad(() => ops.sum(both([x])[1]!), [x]);
      expect([h!.dataSync()[0], received]).toEqual([3, [false, true]]);
    });
  });

  test("saved intermediates live until backward and no longer; others are freed at once", () => {
    let middle: Tensor | undefined;
    let dropped: Tensor | undefined;
    const op = defineOp<[Tensor]>({
      name: "op",
      forward: (ctx, [x]) => {
        middle = ops.scale(x, 2);
        dropped = ops.scale(x, 3);
        ctx.save(middle);
        return ops.scale(middle, 2);
      },
      backward: (ctx, [g]) => {
        expect(ctx.saved[0]!.dataSync()[0]).toBe(2);
        return [ops.scale(g!, 4)];
      },
    });
    tidy(() => {
      const x = Tensor.ones([1]);
      op([x]);
      expect(middle!.disposed).toBe(true);
      const [, [g]] = valueAndGrad(() => {
        const y = op([x]);
        expect([middle!.disposed, dropped!.disposed]).toEqual([false, true]);
        return ops.sum(y);
      }, [x]);
      expect(g!.dataSync()[0]).toBe(4);
      expect(middle!.disposed).toBe(true);
    });
  });

  test("backward may return its incoming gradient, even for two arguments", () => {
    const join = defineOp<[Tensor, Tensor]>({
      name: "join",
      forward: (_, [a, b]) => ops.add(a, b),
      backward: (_, [g]) => [g, g],
    });
    tidy(() => {
      const [a, b] = [Tensor.from([1, 2]), Tensor.from([3, 4])];
      const [, [ga, gb]] = valueAndGrad(() => ops.sum(ops.mul(join([a, b]), join([b, a]))), [a, b]);
      expect([...ga!.dataSync()]).toEqual([8, 12]);
      expect([...gb!.dataSync()]).toEqual([8, 12]);
      ga!.dispose();
      expect([...gb!.dataSync()]).toEqual([8, 12]);
    });
  });

  test("a backward with the wrong number or shape of gradients is refused", () => {
    const wrong = (backward: (g: Tensor) => (Tensor | undefined)[]) =>
      defineOp<[Tensor]>({ name: "wrong", forward: (_, [x]) => ops.scale(x, 1), backward: (_, [g]) => backward(g!) });
    using x = Tensor.ones([2]);
    const run = (op: (args: [Tensor], options: undefined) => Tensor) => () =>
      valueAndGrad(() => ops.sum(op([x], undefined)), [x]);
    expectError(run(wrong(() => [])), "ShapeError", "ERR_SHAPE", /^wrong: backward returned 0 gradients, want 1/);
    expectError(run(wrong((g) => [ops.sum(g)])), "ShapeError", "ERR_SHAPE", /backward's gradient 0 has shape \[\]/);
  });
});
