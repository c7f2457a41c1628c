// Connections at the start of training, where everything has a closed form (method: Initialisation).
import { describe, expect, it } from "vitest";
import { nn, ops, Tensor, tidy } from "../../lib/index.ts";
import { testDevices } from "../support/devices.ts";
import { assertClose, float32Steps } from "../support/tolerance.ts";

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

async function coefficients(options: nn.HyperConnectionOptions, x: Tensor): Promise<Record<string, number[]>> {
  using connection = new nn.HyperConnection(options);
  let reads: Promise<[string, number[]]>[] = [];
  connection.onCoefficients = (c) => {
    reads = Object.entries(c).map(async ([name, t]) => [name, [...(await (t as Tensor).data())]] as [string, number[]]);
  };
  tidy(() => {
    connection.connect(x, (u) => ops.scale(u, 1));
  });
  return Object.fromEntries(await Promise.all(reads));
}

describe.each(testDevices)("HyperConnection on %s", (device) => {
  it("starts near the plain residual, whatever x is", async () => {
    for (const layer of [0, 1, 5]) {
      using x = Tensor.randn([3, 4, 5], { seed: 7, device });
      const c = await coefficients({ kind: "mhc", dim: 5, streams: 4, layer, device }, x);
      for (let t = 0; t < 3; t++) {
        for (let i = 0; i < 4; i++) {
          const b = i === layer % 4 ? 1 : -1;
          // Rounding of exp, the sum and the quotient.
          assertClose([c.pre![4 * t + i]!], [sigmoid(b)], { relative: float32Steps(16) });
          assertClose([c.post![4 * t + i]!], [2 * sigmoid(b)], { relative: float32Steps(16) });
        }
        // res = Sinkhorn of 0 on the diagonal, −8 off it: symmetric, so one normalisation solves it exactly.
        const off = Math.exp(-8) / (1 + 3 * Math.exp(-8));
        const want = Array.from({ length: 16 }, (_, k) => (k % 5 === 0 ? 1 - 3 * off : off));
        assertClose(c.res!.slice(16 * t, 16 * t + 16), want, { relative: float32Steps(200) });
      }
    }
  });

  it("starts uniform on request", async () => {
    using x = Tensor.randn([2, 2, 3], { seed: 8, device });
    const c = await coefficients({ kind: "mhc", dim: 3, streams: 2, init: "uniform", device }, x);
    assertClose(c.pre!, Array(4).fill(0.5), { relative: float32Steps(8) });
    assertClose(c.post!, Array(4).fill(1), { relative: float32Steps(8) });
    assertClose(c.res!, Array(8).fill(0.5), { relative: float32Steps(100) });
  });

  it("plain is x + F(x) without parameters or streams", async () => {
    using connection = new nn.HyperConnection({ kind: "plain", dim: 3 });
    using x = Tensor.from([1, 2, 3], [1, 3], { device });
    using y = tidy(() => connection.connect(x, (u) => ops.scale(u, 10)));
    expect([...(await y.data())]).toEqual([11, 22, 33]);
    expect(connection.parameters()).toEqual([]);
    expect(connection.streams).toBe(1);
    expect(connection.expandStreams(x)).toBe(x);
    expect(connection.contractStreams(x)).toBe(x);
  });

  it("contracts what it expanded to the same values", async () => {
    for (const streams of [1, 2, 4, 8]) {
      using connection = new nn.HyperConnection({ kind: "mhc", dim: 3, streams, device });
      using h = Tensor.randn([2, 3], { seed: 9, device });
      using back = tidy(() => connection.contractStreams(connection.expandStreams(h)));
      assertClose(await back.data(), await h.data(), { relative: float32Steps(streams) });
    }
  });
});

describe("HyperConnection", () => {
  it("rejects what it does not know", () => {
    const make = (options: object) => () => new nn.HyperConnection(options as nn.HyperConnectionOptions);
    expect(make({ kind: "hc", dim: 4 })).toThrow(/HyperConnection: options\.kind is "hc", want "plain" or "mhc"/);
    expect(make({ kind: "mhc", dim: 4, streams: 3 })).toThrow(/options\.streams is 3, want 1, 2, 4 or 8/);
    expect(make({ kind: "plain", dim: 4, streams: 4 })).toThrow(/options\.streams is 4, want 1/);
    expect(make({ kind: "mhc", dim: 0 })).toThrow(/options\.dim is 0/);
    expect(make({ kind: "mhc", dim: 4, layer: -1 })).toThrow(/options\.layer is -1/);
    expect(make({ kind: "mhc", dim: 4, init: "zero" })).toThrow(/options\.init is "zero"/);
  });
});
