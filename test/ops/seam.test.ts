/** seam: the bits of mhcPost and then mhcPre. connectChain: the bits of connect after connect, gradients, memory, bad input. */
import { describe, expect, test } from "vitest";
import { memory, noGrad, ops, resetPeakMemory, Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { mhcPostForward } from "../../lib/ops/mhc_post.ts";
import { connectionSettings, mhcPreForward } from "../../lib/ops/mhc_pre.ts";
import { type ConnectionCase, coefficientSteps, connectionInputs, tensorsOf } from "../support/connection.ts";
import { sizeFor, testDevices } from "../support/devices.ts";
import { expectError } from "../support/errors.ts";
import { type CheckedInput, gradcheck } from "../support/gradcheck.ts";
import * as oracle from "../support/oracle.ts";
import { assertSameAtAnyThreads, pullback } from "../support/pullback.ts";
import { cotangent, normal, uniform } from "../support/random.ts";
import { assertBitwiseEqual, bfloat16Rounding, float32Steps } from "../support/tolerance.ts";

type Options = ops.ConnectionOptions;
const sentinel = -12345;
const guard = 64;

const nest = (x: Tensor, links: readonly ops.ChainedConnection[]) =>
  links.reduce((y, { parameters, branch, options }) => ops.connect(y, parameters, branch, options), x);

/** Runs the seam and the two kernels that it stands for; both results in one order. Outputs of the seam are guarded. */
function bothWays(c: ConnectionCase, device: string, options: Options = {}) {
  return tidy(() => {
    const { n, channels, tokens, dtype } = c;
    const { x, ...parameters } = tensorsOf(connectionInputs(c), device);
    const f = Tensor.from(normal(tokens * channels, 1, 11), [tokens, channels], { dtype, device });
    const post = Tensor.from(uniform(tokens * n, 0, 2, 12), [tokens, n], { device });
    const res = Tensor.from(uniform(tokens * n * n, 0, 1, 13), [tokens, n, n], { device });
    const settings = connectionSettings("seam", x, parameters, options);

    const y = mhcPostForward(x, f, post, res, settings);
    const composed = Object.entries({ y, ...mhcPreForward(y, parameters, settings) });
    const results = composed.map(([name, want]) => {
      const guarded = Tensor.full([want.size + 2 * guard], sentinel, { dtype: want.dtype, device });
      return { name, want: want.dataSync(), guarded, got: guarded.view(want.shape, guard) };
    });
    const handles = new Map(results.map(({ name, got }) => [name, got.handle]));
    native.seamForward(
      x.handle,
      f.handle,
      post.handle,
      res.handle,
      parameters.phi.handle,
      parameters.alpha.handle,
      parameters.bias.handle,
      handles.get("y")!,
      handles.get("input")!,
      handles.get("pre")!,
      handles.get("post")!,
      handles.get("res")!,
      handles.get("q")!,
      handles.get("r")!,
      tokens,
      n,
      channels,
      ...settings.options,
    );
    return results.map(({ name, want, guarded }) => {
      const all = guarded.dataSync() as Float32Array;
      const around = [...all.subarray(0, guard), ...all.subarray(want.length + guard)];
      return { name, want: want as Float32Array, got: all.subarray(guard, guard + want.length), around };
    });
  });
}

function expectSame(c: ConnectionCase, device: string, options?: Options): void {
  for (const { name, want, got, around } of bothWays(c, device, options)) {
    assertBitwiseEqual(got, want, `${name}, T = ${c.tokens}, C = ${c.channels}`);
    expect(new Set(around).size, `written around ${name}`).toBe(1);
  }
}

describe.each(testDevices)("seam on %s", (device) => {
  for (const n of [1, 2, 4, 8])
    for (const dtype of ["float32", "bfloat16"] as const)
      test(`n = ${n}, ${dtype}: the bits of mhcPost and mhcPre; writes all of its outputs and nothing else`, () => {
        for (const channels of [1, 19, 32, 129])
          for (const tokens of [0, 1, 7, 13, 48])
            expectSame({ n, channels, tokens, logitScale: 2, dtype, seed: tokens + 1 }, device);
        const c = { n, channels: 19, tokens: 13, logitScale: 4, dtype };
        expectSame(c, device, { convention: "deepseek-v4", iters: 3, sinkhornEps: 1e-3, normEps: 1e-2 });
      });

  // On CPU: streams written past the caches, with a tile cut short at the end; and a phi too large for the cache.
  for (const [what, channels, tokens, dtype] of [
    ["large streams", 128, sizeFor(device, 16389, 69), "float32"],
    ["large streams", 256, sizeFor(device, 16389, 69), "bfloat16"],
    ["a large phi", 1408, 21, "float32"],
    ["a large phi", 1408, 21, "bfloat16"],
  ] as const)
    test(`${what}, ${dtype}: the same bits, at any thread count`, () => {
      const { x, ...parameters } = tensorsOf(
        connectionInputs({ n: 4, channels, tokens, logitScale: 2, dtype }),
        device,
      );
      const link = { parameters, branch: (u: Tensor) => u };
      const run = () =>
        tidy(() => [ops.connectChain, nest].map((op) => op(x, [link, link]).dataSync() as Float32Array));
      const [chained, nested] = run();
      assertBitwiseEqual(chained!, nested!);
      assertSameAtAnyThreads(run);
      for (const t of [x, ...Object.values(parameters)]) t.dispose();
    });
});

/** Three connections with parameters, options and branches of their own; `w` is shared by two branches. */
function threeLinks(c: ConnectionCase) {
  const inputs = [1, 2, 3].map((k) => connectionInputs({ ...c, seed: 10 * k }));
  const w = { name: "w", shape: [c.channels], values: normal(c.channels, 1, 8), dtype: c.dtype };
  const parameters = inputs.flatMap(({ phi, alpha, bias }) => [phi, alpha, bias]);
  const options: Options[] = [{}, { iters: 4, normEps: 1e-3 }, { convention: "deepseek-v4" }];
  const branches = (w: Tensor) => [
    (u: Tensor) => ops.mul(u, w),
    (u: Tensor) => u,
    (u: Tensor) => ops.silu(ops.mul(u, w)),
  ];
  const links = (t: readonly Tensor[]): ops.ChainedConnection[] =>
    branches(t[10]!).map((branch, k) => ({
      parameters: { phi: t[3 * k + 1]!, alpha: t[3 * k + 2]!, bias: t[3 * k + 3]! },
      branch,
      options: options[k]!,
    }));
  const all: CheckedInput[] = [inputs[0]!.x, ...parameters, w];
  return { inputs: all, links, options };
}

describe.each(testDevices)("connectChain on %s", (device) => {
  for (const n of [1, 2, 4])
    for (const dtype of ["float32", "bfloat16"] as const)
      test(`values and gradients against the float64 oracle, n = ${n}, ${dtype}`, () => {
        const c = { n, channels: 11, tokens: 9, logitScale: 1, dtype };
        const { inputs, links, options } = threeLinks(c);
        // Three connections; bfloat16 stores u, f and y of each.
        const steps = 3 * coefficientSteps(c);
        const store = dtype === "bfloat16" ? 9 * bfloat16Rounding : 0;
        gradcheck({
          inputs,
          op: (...t) => ops.connectChain(t[0]!, links(t)),
          oracle: (...a) => {
            const times = (u: Float64Array) => u.map((v, i) => v * a[10]![i % c.channels]!);
            const branches = [times, (u: Float64Array) => u, (u: Float64Array) => oracle.silu(times(u))];
            return branches.reduce(
              (x, branch, k) =>
                oracle.connect(x, a[3 * k + 1]!, a[3 * k + 2]!, a[3 * k + 3]!, branch, n, c.channels, options[k]!),
              a[0]!,
            );
          },
          value: { scaled: float32Steps(2 * steps) + store },
          gradient: { scaled: float32Steps(4 * steps) + 2 * store, absolute: float32Steps(4 * steps) },
          device,
          samples: 12,
        });
      });

  for (const dtype of ["float32", "bfloat16"] as const)
    test(`equals connect after connect, ${dtype}: the same bits of values, coefficients and every gradient`, () => {
      const c = { n: 4, channels: 40, tokens: 37, logitScale: 2, dtype };
      const { inputs, links } = threeLinks(c);
      const tensors = inputs.map((i) => Tensor.from(Float32Array.from(i.values), i.shape, { device, dtype: i.dtype }));
      const seeds = cotangent(tensors[0]!.size, 4);
      const run = (op: typeof nest, params: readonly Tensor[]) => {
        const coefficients: Float32Array[] = [];
        const onCoefficients: ops.ConnectOptions["onCoefficients"] = (seen) =>
          coefficients.push(...Object.values(seen).map((t) => t.dataSync() as Float32Array));
        const list = links(tensors).map((l) => ({ ...l, options: { ...l.options, onCoefficients } }));
        const { value, grads } = pullback(() => op(tensors[0]!, list), params, seeds);
        return { values: [value, ...coefficients], grads };
      };
      // All of them; parameters of one connection only; the branches' weight only.
      for (const params of [tensors, tensors.slice(4, 7), tensors.slice(7, 8), tensors.slice(10)]) {
        const [chained, nested] = [run(ops.connectChain, params), run(nest, params)];
        expect(chained.values.length).toBe(1 + 3 * 3);
        for (const [i, v] of chained.values.entries()) assertBitwiseEqual(v, nested.values[i]!, `value ${i}`);
        for (const [i, g] of chained.grads.entries()) {
          expect([...g!].some((v) => v !== 0)).toBe(true);
          assertBitwiseEqual(g!, nested.grads[i]!, `gradient ${i} of ${params.length}`);
        }
      }
      for (const t of tensors) t.dispose();
    });

  test("one parameter in several connections gets the sum of its gradients", () => {
    const { x, ...parameters } = tensorsOf(
      connectionInputs({ n: 2, channels: 8, tokens: 5, logitScale: 1, dtype: "float32" }),
      device,
    );
    const link = { parameters, branch: ops.silu };
    const params = [x, parameters.phi, parameters.alpha, parameters.bias];
    const seeds = cotangent(x.size, 4);
    const [chained, nested] = [ops.connectChain, nest].map((op) =>
      pullback(() => op(x, [link, link, link]), params, seeds),
    );
    for (const [i, g] of chained!.grads.entries()) assertBitwiseEqual(g!, nested!.grads[i]!, `gradient ${i}`);
    for (const t of params) t.dispose();
  });

  test("nothing is left behind; without gradients the streams between connections are freed on the way", () => {
    const live = memory();
    const { x, ...parameters } = tensorsOf(
      connectionInputs({ n: 4, channels: 64, tokens: 1024, logitScale: 1, dtype: "float32" }),
      device,
    );
    const link = { parameters, branch: (u: Tensor) => u };
    const links = Array.from({ length: 6 }, () => link);
    const before = memory();
    for (const params of [[x], [parameters.phi], [parameters.alpha, parameters.bias], []]) {
      const [value, grads] = valueAndGrad(() => ops.sum(ops.connectChain(x, links)), params);
      for (const t of [value, ...grads]) t.dispose();
      expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
    }
    // Two streams are alive at a time, and what the branches returned; the rest (packed phi, coefficients) takes less than one.
    const streams = x.size * 4;
    resetPeakMemory();
    tidy(() => noGrad(() => ops.connectChain(x, links))).dispose();
    expect(memory().peakBytes - before.bytes).toBeGreaterThanOrEqual(2 * streams);
    expect(memory().peakBytes - before.bytes).toBeLessThan((2 + 6 / 4 + 1) * streams);
    resetPeakMemory();
    tidy(() => noGrad(() => nest(x, links))).dispose();
    expect(memory().peakBytes - before.bytes).toBeGreaterThanOrEqual(6 * streams);
    // Outside any scope: y and the six inputs, which the branches returned, are the caller's.
    noGrad(() => ops.connectChain(x, links)).dispose();
    expect(memory().tensors - before.tensors).toBeLessThanOrEqual(6);
    for (const t of [x, ...Object.values(parameters)]) t.dispose();
    expect(memory().tensors - live.tensors).toBeLessThanOrEqual(6);
  });

  test("T = 0; coefficients are seen in order, before their branch runs", () =>
    tidy(() => {
      const { x, ...parameters } = tensorsOf(
        connectionInputs({ n: 4, channels: 8, tokens: 2, logitScale: 1, dtype: "float32" }),
        device,
      );
      const link = { parameters, branch: (u: Tensor) => u };
      expect(ops.connectChain(Tensor.zeros([0, 4, 8], { device }), [link, link]).shape).toEqual([0, 4, 8]);
      const order: string[] = [];
      const steps = ["a", "b"].map((name) => ({
        parameters,
        branch: (u: Tensor) => {
          order.push(`branch ${name}`);
          return u;
        },
        options: { onCoefficients: ({ res }: { res: Tensor }) => order.push(`${name} [${res.shape}]`) },
      }));
      ops.connectChain(x, steps);
      expect(order).toEqual(["a [2,4,4]", "branch a", "b [2,4,4]", "branch b"]);
    }));

  test("says what is wrong, and in which connection, before a branch runs", () =>
    tidy(() => {
      const { x, ...parameters } = tensorsOf(
        connectionInputs({ n: 4, channels: 8, tokens: 2, logitScale: 1, dtype: "float32" }),
        device,
      );
      let ran = 0;
      const good = {
        parameters,
        branch: (u: Tensor) => {
          ran++;
          return u;
        },
      };
      const call = (connections: unknown) => () => ops.connectChain(x, connections as ops.ChainedConnection[]);
      const second = (changes: object) => call([good, { ...good, ...changes }]);
      const early: [() => unknown, string, string, RegExp][] = [
        [call(good), "TypeError", "ERR_TYPE", /connectChain: connections is a Object, want an array/],
        [call([]), "RangeError", "ERR_RANGE", /connectChain: connections is \[\], want at least one/],
        [call([good, 3]), "TypeError", "ERR_TYPE", /connections\[1\] is 3, want an object with parameters, branch/],
        [
          () => ops.connectChain(parameters.alpha, [good]),
          "ShapeError",
          "ERR_SHAPE",
          /connectChain: x has shape \[3\]/,
        ],
        [
          second({ parameters: { ...parameters, phi: parameters.bias } }),
          "ShapeError",
          "ERR_SHAPE",
          /connectChain: connections\[1\]: phi has shape/,
        ],
        [second({ parameters: undefined }), "TypeError", "ERR_TYPE", /connections\[1\]: parameters is undefined/],
        [second({ branch: 3 }), "TypeError", "ERR_TYPE", /connections\[1\]\.branch is 3, want a function/],
        [second({ options: { iters: 0 } }), "RangeError", "ERR_RANGE", /connections\[1\]: options.iters is 0/],
      ];
      for (const [run, name, code, message] of early) expectError(run, name, code, message);
      expect(ran).toBe(0);
      expectError(
        second({ branch: () => x }),
        "ShapeError",
        "ERR_SHAPE",
        /connections\[1\]: the branch's result has shape \[2, 4, 8\], want \[2, 8\]/,
      );
      expectError(
        call([{ ...good, branch: async (u: Tensor) => u }, good]),
        "TypeError",
        "ERR_TYPE",
        /connections\[0\]: branch: fn returned a promise/,
      );
    }));
});
