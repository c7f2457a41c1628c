// AdamW against its formula in float64, and what it refuses.
import { describe, expect, it } from "vitest";
import { nn, optim, Tensor } from "../../lib/index.ts";
import { testDevices } from "../support/devices.ts";
import { tinyModel } from "../support/tiny.ts";
import { assertClose, float32Steps } from "../support/tolerance.ts";

const wave = (size: number, phase: number) => Float32Array.from({ length: size }, (_, i) => Math.sin(1.7 * i + phase));

/** AdamW, arXiv:1711.05101, in float64. */
function reference(
  w: number[],
  grads: Float32Array[],
  o: { lr: number[]; b1: number; b2: number; eps: number; decay: number },
) {
  const p = [...w];
  const m = w.map(() => 0);
  const v = w.map(() => 0);
  for (const [k, grad] of grads.entries())
    for (let i = 0; i < p.length; i++) {
      m[i] = o.b1 * m[i]! + (1 - o.b1) * grad[i]!;
      v[i] = o.b2 * v[i]! + (1 - o.b2) * grad[i]! ** 2;
      const step = m[i]! / (1 - o.b1 ** (k + 1)) / (Math.sqrt(v[i]! / (1 - o.b2 ** (k + 1))) + o.eps);
      p[i] = p[i]! - o.lr[k]! * o.decay * p[i]! - o.lr[k]! * step;
    }
  return { p, m, v };
}

describe.each(testDevices)("AdamW on %s", (device) => {
  it("follows the formula for steps with different learning rates", async () => {
    const lr = [0.1, 0.05, 0.2, 0.01, 0.3];
    for (const size of [1, 7, 64, 1003]) {
      const start = wave(size, 0);
      const grads = lr.map((_, k) => wave(size, k + 1));
      using p = Tensor.from(start, [size], { device });
      using optimizer = new optim.AdamW([p], { betas: [0.9, 0.95], eps: 1e-6, weightDecay: 0.3 });
      for (const [k, g] of grads.entries()) {
        using grad = Tensor.from(g, [size], { device });
        optimizer.step([grad], { lr: lr[k] });
      }
      const want = reference([...start], grads, { lr, b1: 0.9, b2: 0.95, eps: 1e-6, decay: 0.3 });
      const { m, v, steps } = optimizer.state();
      expect(steps).toBe(lr.length);
      // Moments: 3 roundings a step; the weights add a quotient of sums that can cancel, so they are measured against the largest.
      assertClose(await m[0]!.data(), want.m, { scaled: float32Steps(4 * lr.length), label: "m" });
      assertClose(await v[0]!.data(), want.v, { relative: float32Steps(4 * lr.length), label: "v" });
      assertClose(await p.data(), want.p, { scaled: float32Steps(32 * lr.length), label: "w" });
    }
  });

  it("decays by group, and never a parameter with decay: false", async () => {
    const zero = Tensor.zeros([2], { device });
    using a = Tensor.ones([2], { device });
    using b = Tensor.ones([2], { device });
    using c = new nn.Parameter(Tensor.ones([2], { device }), { decay: false });
    using optimizer = new optim.AdamW([{ params: [a], weightDecay: 0.5 }, { params: [b], lr: 0.2 }, { params: [c] }], {
      lr: 0.1,
      weightDecay: 0.1,
    });
    optimizer.step([zero, zero, zero]);
    assertClose(await a.data(), [0.95, 0.95], { relative: float32Steps(4) });
    assertClose(await b.data(), [0.98, 0.98], { relative: float32Steps(4) });
    expect([...(await c.data())]).toEqual([1, 1]);
    zero.dispose();
  });
});

describe("AdamW", () => {
  it("takes gradients in the order of model.parameters() also with decayGroups", () => {
    using model = tinyModel({ layers: 2 });
    const groups = optim.decayGroups(model, 0.1);
    using optimizer = new optim.AdamW(groups);
    expect(optimizer.params).toEqual(model.parameters());
    for (const group of groups)
      for (const p of group.params) expect(group.weightDecay).toBe((p as nn.Parameter).decay ? 0.1 : 0);
  });

  it("refuses what does not fit, and changes nothing then", async () => {
    using p = Tensor.ones([2]);
    using q = Tensor.ones([3]);
    using bf = Tensor.ones([2], { dtype: "bfloat16" });
    using optimizer = new optim.AdamW([p, q]);
    expect(() => optimizer.step([p])).toThrow(/AdamW\.step: grads is 1 tensors, want 2/);
    expect(() => optimizer.step([p, p])).toThrow(/grads\[1\] has shape \[2\], want \[3\]/);
    expect(() => optimizer.step([bf, q])).toThrow(/grads\[0\] is bfloat16, want float32/);
    expect(() => optimizer.step([p, q], { lr: -1 })).toThrow(/options\.lr is -1/);
    expect(optimizer.steps).toBe(0);
    expect([...(await p.data())]).toEqual([1, 1]);
    expect(() => new optim.AdamW([p, p])).toThrow(/listed twice/);
    expect(() => new optim.AdamW([bf])).toThrow(/bfloat16, want float32/);
    expect(() => new optim.AdamW([p], { betas: [0.9, 1] })).toThrow(/options\.betas\[1\] is 1/);
    expect(() => new optim.AdamW([p], { eps: 0 })).toThrow(/options\.eps is 0/);
    expect(() => new optim.AdamW({} as Tensor[])).toThrow(/params is a Object, want an array/);
    expect(() => new optim.AdamW([{} as Tensor])).toThrow(/params\[0\] is a Object/);
  });
});
