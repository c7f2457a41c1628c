/** The counts of operations against loops that do the work and count as they go, written from the equations. */
import { describe, expect, test } from "vitest";
import { opCases } from "../../lib/bench/ops/index.ts";
import * as flops from "../../lib/bench/support/flops.ts";

const size = { tokens: 3, n: 4, channels: 5 };

/** A number that counts what is done to it. */
function counter() {
  let count = 0;
  const op = <T>(value: T): T => {
    count++;
    return value;
  };
  return {
    add: (a: number, b: number) => op(a + b),
    mul: (a: number, b: number) => op(a * b),
    div: (a: number, b: number) => op(a / b),
    exp: (a: number) => op(Math.exp(a)),
    done: () => count,
  };
}

test("linear: y_o = Σ_i x_i w_oi", () => {
  const c = counter();
  for (let t = 0; t < 3; t++)
    for (let o = 0; o < 7; o++) {
      let y = 0;
      for (let i = 0; i < 5; i++) y = c.add(y, c.mul(i, o));
    }
  expect(flops.linear(3, 5, 7)).toBe(c.done());
});

test("mhcPost forward: y_ic = Σ_j res_ij x_jc + post_i f_c", () => {
  const c = counter();
  for (let t = 0; t < size.tokens; t++)
    for (let i = 0; i < size.n; i++)
      for (let k = 0; k < size.channels; k++) {
        let y = c.add(0, c.mul(i, k));
        for (let j = 0; j < size.n; j++) y = c.add(y, c.mul(j, k));
      }
  expect(flops.mhcPostForward(size)).toBe(c.done());
});

test("mhcPost backward: df = Σ post dy, dpost = ⟨dy, f⟩, dres_ij = ⟨dy_i, x_j⟩", () => {
  const c = counter();
  for (let t = 0; t < size.tokens; t++)
    for (let k = 0; k < size.channels; k++)
      for (let i = 0; i < size.n; i++) {
        c.add(0, c.mul(i, k)); // df
        c.add(0, c.mul(i, k)); // dpost
        for (let j = 0; j < size.n; j++) c.add(0, c.mul(i, j)); // dres
      }
  expect(flops.mhcPostBackward(size)).toBe(c.done());
});

test("sinkhorn: exp(L − max), then 20 times columns and rows; backward rewinds each", () => {
  const [n, iters] = [4, 20];
  const c = counter();
  for (let k = 0; k < n * n; k++) c.exp(c.add(k, -1));
  for (let pass = 0; pass < 2 * iters; pass++)
    for (let line = 0; line < n; line++) {
      let sum = 1;
      for (let k = 1; k < n; k++) sum = c.add(sum, 1);
      const inverse = c.div(1, sum);
      for (let k = 0; k < n; k++) c.mul(1, inverse);
    }
  const forward = c.done();
  expect(flops.sinkhornForward(6, n)).toBe(6 * forward);
  for (let pass = 0; pass < 2 * iters; pass++)
    for (let line = 0; line < n; line++) {
      let dot = 0;
      for (let k = 0; k < n; k++) dot = c.add(dot, c.mul(1, 1));
      const inverse = c.div(1, 2);
      for (let k = 0; k < n; k++) {
        c.mul(c.add(1, -dot), inverse);
        c.mul(1, 2);
      }
    }
  for (let k = 0; k < n * n; k++) c.mul(1, 1);
  expect(flops.sinkhornBackward(6, n)).toBe(6 * c.done());
});

describe("of the whole", () => {
  test("products with φ dominate the entry: 2NK forward, 4NK backward, as C grows", () => {
    const large = { tokens: 2, n: 4, channels: 2 ** 20 };
    const product = 2 * 2 * 24 * 4 * 2 ** 20; // tokens · 2NK
    // Beside them a few K a token: Σ v², u; dpre, pre du, two terms of dx and res dy.
    expect((flops.mhcPreForward(large) - product) / (2 * 4 * 4 * 2 ** 20)).toBeCloseTo(1, 3);
    expect((flops.mhcPreBackward(large) - 2 * product) / (2 * (8 + 6) * 4 * 2 ** 20)).toBeCloseTo(1, 3);
  });

  test("every case has a count, twice the tokens take twice of it, and sums are sums of parts", () => {
    expect(opCases(true).every((c) => Number.isInteger(c.flops) && c.flops > 0)).toBe(true);
    for (const of of [flops.mhcPreForward, flops.mhcPreBackward, flops.connect, flops.contract, flops.expand])
      expect(of({ ...size, tokens: 6 })).toBe(2 * of(size));
    const parts = [flops.mhcPreForward, flops.mhcPostForward, flops.mhcPostBackward, flops.mhcPreBackward];
    expect(flops.connect(size)).toBe(parts.reduce((sum, of) => sum + of(size), 0));
  });
});
