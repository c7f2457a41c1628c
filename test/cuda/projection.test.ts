/**
 * How exact the projection q = vφᵀ is on a GPU, also where its tensor cores cut off what they add (the executor does so unless
 * told otherwise), and the option projection: "tf32", where φ is two bfloat16 terms instead of three; on the CPU it changes nothing.
 */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { devices, nn, ops, setSeed, Tensor, tidy } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { connectionSettings, mhcPreForward } from "../../lib/ops/mhc_pre.ts";
import { coefficientSteps, connectionInputs, streamTolerance, tensorsOf } from "../support/connection.ts";
import { gradcheck } from "../support/gradcheck.ts";
import { type KernelCase, runKernels } from "../support/hyper_connection_kernels.ts";
import * as oracle from "../support/oracle.ts";
import { roundBfloat16, rounded } from "../support/random.ts";
import { assertBitwiseEqual, bfloat16Rounding, float32Steps } from "../support/tolerance.ts";

const gpus = devices()
  .filter((d) => d.available && d.name.startsWith("cuda"))
  .map((d) => d.name);
const dtypes = ["float32", "bfloat16"] as const;

type Projection = "float32" | "tf32";
type Values = Record<string, Float32Array>;
const run = (device: string, c: KernelCase): Values =>
  tidy(() =>
    Object.fromEntries(Object.entries(runKernels(device, c)).map(([k, t]) => [k, t.dataSync() as Float32Array])),
  );

/** φ as its first two terms: 16 bits. */
const twoTerms = (v: number) => {
  const first = roundBfloat16(v);
  return first + roundBfloat16(v - first);
};

function projected(device: string, inputs: ReturnType<typeof connectionInputs>, projection: Projection): Float32Array {
  return tidy(() => {
    const { x, ...parameters } = tensorsOf(inputs, device);
    return mhcPreForward(
      x,
      parameters,
      connectionSettings("test", x, parameters, { projection }),
    ).q.dataSync() as Float32Array;
  });
}

/** q in float64, and Σ|v·φ| of each of its elements. */
function exactProjection(
  { n, channels, tokens, dtype }: { n: number; channels: number; tokens: number; dtype: (typeof dtypes)[number] },
  inputs: ReturnType<typeof connectionInputs>,
) {
  const [K, N] = [n * channels, n * n + 2 * n];
  const v = rounded(inputs.x.values, dtype);
  const [exact, size] = [new Float64Array(tokens * N), new Float64Array(tokens * N)];
  for (let t = 0; t < tokens; t++)
    for (let k = 0; k < N; k++)
      for (let i = 0; i < K; i++) {
        const product = v[t * K + i]! * inputs.phi.values[k * K + i]!;
        exact[t * N + k]! += product;
        size[t * N + k]! += Math.abs(product);
      }
  return { exact, size };
}

/** Of the root mean square of what is exact: that of the error, and how far results lie from zero too much, on average. */
function errorOf(values: Float32Array, exact: Float64Array): { rms: number; bias: number } {
  let [size, error, outwards] = [0, 0, 0];
  for (const [i, value] of values.entries()) {
    const e = value - exact[i]!;
    size += exact[i]! ** 2;
    error += e ** 2;
    outwards += e * Math.sign(exact[i]!);
  }
  return { rms: Math.sqrt(error / size), bias: outwards / values.length / Math.sqrt(size / values.length) };
}

/** A GPU rounds as it does; the executor both ways. */
const cases = gpus.flatMap((device) =>
  native.emulator
    ? ["truncate", "nearest"].map((rounding) => ({ device, rounding }))
    : [{ device, rounding: "as it is" }],
);

describe.each(cases)("q on $device, rounding: $rounding", ({ device, rounding }) => {
  beforeEach(() => native.emulator?.truncateMma(rounding !== "nearest"));
  afterEach(() => native.emulator?.truncateMma(process.env.CUDA_EMU_MMA !== "nearest"));

  for (const dtype of dtypes)
    for (const n of [2, 4, 8])
      it(`q within 2⁻¹⁶ Σ|v·φ| of float64, where float32 is within its roundings: ${dtype}, n = ${n}`, () => {
        const c = { n, channels: 72, tokens: 19, logitScale: 1, dtype };
        const inputs = connectionInputs(c);
        // Two terms of 8 bits leave 2⁻¹⁶ of φ. Then float32 sums, in whatever order: a rounding a term.
        const steps = float32Steps(n * c.channels + 3);
        const { exact, size } = exactProjection(c, inputs);
        const worst = (projection: Projection) =>
          projected(device, inputs, projection).reduce((w, q, i) => Math.max(w, Math.abs(q - exact[i]!) / size[i]!), 0);
        const [float32, tf32] = [worst("float32"), worst("tf32")];
        expect(float32).toBeLessThanOrEqual(steps);
        expect(tf32).toBeLessThanOrEqual(2 ** -16 + steps);
        expect(tf32).toBeGreaterThan(2 * float32); // the third term is left out indeed
      });

  // Long sums, where a drift of the roundings shows: the last range of columns is not whole, nor is the last chunk.
  for (const dtype of dtypes)
    for (const [n, channels] of [
      [2, 1300],
      [4, 1300],
      [8, 650],
    ] as const)
      it(`over K = ${n * channels}: as exact as the CPU, without a drift: ${dtype}, n = ${n}`, () => {
        const c = { n, channels, tokens: 24, logitScale: 1, dtype };
        const inputs = connectionInputs(c);
        const { exact } = exactProjection(c, inputs);
        const of = (where: string, projection: Projection) => errorOf(projected(where, inputs, projection), exact);
        const [float32, tf32, cpu] = [of(device, "float32"), of(device, "tf32"), of("cpu", "float32")];
        expect(float32.rms).toBeLessThanOrEqual(2 * cpu.rms);
        expect(4 * float32.rms).toBeLessThanOrEqual(tf32.rms);
        expect(Math.abs(float32.bias)).toBeLessThan(2 ** -22);
      });
});

describe.each(gpus)('projection: "tf32" on %s', (device) => {
  it.each(dtypes)("a φ of 16 bits gives the bits of float32: %s", (dtype) => {
    const inputs = connectionInputs({ n: 4, channels: 40, tokens: 21, logitScale: 1, dtype });
    inputs.phi.values = inputs.phi.values.map(twoTerms);
    assertBitwiseEqual(projected(device, inputs, "tf32"), projected(device, inputs, "float32"));
  });

  it.each(dtypes)("connect: the gradients are those of the coefficients that forward had: %s", (dtype) => {
    const c = { n: 4, channels: 21, tokens: 7, logitScale: 2, dtype };
    const inputs = connectionInputs(c);
    inputs.phi.values = inputs.phi.values.map(twoTerms);
    const { x, phi, alpha, bias } = inputs;
    const steps = coefficientSteps(c);
    const store = dtype === "bfloat16" ? 3 * bfloat16Rounding : 0;
    gradcheck({
      inputs: [x, phi, alpha, bias],
      op: (...t) => ops.connect(t[0]!, { phi: t[1]!, alpha: t[2]!, bias: t[3]! }, (u) => u, { projection: "tf32" }),
      oracle: (...a) => oracle.connect(a[0]!, a[1]!, a[2]!, a[3]!, (u) => u, c.n, c.channels),
      value: { scaled: float32Steps(2 * steps) + store },
      gradient: { scaled: float32Steps(4 * steps) + store, absolute: float32Steps(4 * steps) },
      step: 1e-3 / c.logitScale,
      device,
      samples: 12,
    });
  });

  it.each(dtypes)("any φ: coefficients within what the error of q does to them: %s", (dtype) => {
    const c = { n: 4, channels: 64, tokens: 9, logitScale: 2, dtype };
    const inputs = connectionInputs(c);
    const { x, phi, alpha, bias } = inputs;
    // r Σ|v·φ| is about √K for unit streams; α then scales it, and Sinkhorn's 2 · 20 normalisations pass it on.
    const moved = 2 ** -16 * Math.sqrt(c.n * c.channels) * c.logitScale;
    const tolerance = streamTolerance(c);
    gradcheck({
      inputs: [x, phi, alpha, bias].map((i) => ({ ...i, differentiable: false })),
      op: (...t) => {
        const out = ops.mhcPre(t[0]!, { phi: t[1]!, alpha: t[2]!, bias: t[3]! }, { projection: "tf32" });
        return [out.input, out.pre, out.post, out.res];
      },
      oracle: (...a) => {
        const out = oracle.mhcPre(a[0]!, a[1]!, a[2]!, a[3]!, c.n, c.channels);
        return [out.input, out.pre, out.post, out.res];
      },
      value: { ...tolerance, scaled: tolerance.scaled! + moved },
      gradient: {},
      device,
    });
  });

  for (const dtype of dtypes)
    for (const n of [1, 2, 4, 8])
      it(`the seam has the bits of mhcPost and mhcPre: ${dtype}, n = ${n}`, () => {
        const c = { tokens: 21, n, channels: 72, dtype };
        const values = run(device, { ...c, projection: "tf32" });
        for (const name of ["input", "pre", "post", "res", "q", "r"])
          assertBitwiseEqual(values[`seam.${name}`]!, values[`apart.${name}`]!, name);
        if (n > 1) expect(values.q).not.toEqual(run(device, c).q);
      });

  it("a module passes it on", () =>
    tidy(() => {
      const x = Tensor.randn([5, 4, 32], { seed: 1, device });
      const result = (projection: Projection) => {
        setSeed(3);
        const connection = new nn.HyperConnection({ kind: "mhc", dim: 32, device, projection, phiStd: 10 });
        return connection.connect(x, (u) => u).dataSync();
      };
      expect(result("tf32")).not.toEqual(result("float32"));
    }));
});

it.each(dtypes)("on the CPU it is float32, bit for bit: %s", (dtype) => {
  const c = { tokens: 13, n: 4, channels: 40, dtype };
  const [plain, tf32] = [run("cpu", c), run("cpu", { ...c, projection: "tf32" })];
  for (const [name, values] of Object.entries(plain)) assertBitwiseEqual(tf32[name]!, values, name);
});
