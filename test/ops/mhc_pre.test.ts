/** mhcPre: coefficients and branch input against the float64 oracle, exact gradients, bits, bad input. */
import { describe, expect, test } from "vitest";
import { ops, setThreads, Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import { coefficientSteps, connectionInputs, streamTolerance, tensorsOf } from "../support/connection.ts";
import { testDevices } from "../support/devices.ts";
import { expectError } from "../support/errors.ts";
import { gradcheck } from "../support/gradcheck.ts";
import * as oracle from "../support/oracle.ts";
import { cotangent } from "../support/random.ts";
import { assertBitwiseEqual, assertClose, bfloat16Rounding, float32Steps } from "../support/tolerance.ts";

const cases = [
  { n: 1, channels: 7, tokens: 3 },
  { n: 2, channels: 33, tokens: 13 },
  { n: 4, channels: 32, tokens: 17 },
  { n: 4, channels: 1, tokens: 2 },
  { n: 8, channels: 19, tokens: 7 },
];

describe.each(testDevices)("mhcPre on %s", (device) => {
  for (const shape of cases)
    for (const logitScale of [1, 2, 4, 8])
      for (const dtype of ["float32", "bfloat16"] as const)
        for (const convention of ["paper", "deepseek-v4"] as const)
          test(`n = ${shape.n}, C = ${shape.channels}, T = ${shape.tokens}, logits ${logitScale}, ${dtype}, ${convention}`, () => {
            const c = { ...shape, logitScale, dtype };
            const { x, phi, alpha, bias } = connectionInputs(c);
            const steps = coefficientSteps(c);
            gradcheck({
              inputs: [x, phi, alpha, bias],
              op: (...t) => {
                const out = ops.mhcPre(t[0]!, { phi: t[1]!, alpha: t[2]!, bias: t[3]! }, { convention });
                return [out.input, out.pre, out.post, out.res];
              },
              oracle: (...a) => {
                const out = oracle.mhcPre(a[0]!, a[1]!, a[2]!, a[3]!, c.n, c.channels, { convention });
                return [out.input, out.pre, out.post, out.res];
              },
              value: streamTolerance(c),
              // Gradients of the coefficients pass the logits' scale once more (α), and sum over up to T tokens.
              gradient: {
                scaled: float32Steps(2 * steps),
                absolute: float32Steps(2 * steps),
                relative: dtype === "bfloat16" ? bfloat16Rounding : 0,
              },
              // A finite difference sees the logits through α; sharp gates want small steps.
              step: 1e-3 / logitScale,
              device,
              samples: 12,
            });
          });

  test("coefficients keep their accuracy at K = 10 258 (odd C), large and tiny streams, and zero", () => {
    for (const magnitude of [1, 1e4, 1e-4, 0]) {
      const c = { n: 2, channels: 5129, tokens: 3, logitScale: 1, dtype: "float32" as const };
      const inputs = connectionInputs(c);
      inputs.x.values = inputs.x.values.map((v) => Math.fround(v * magnitude));
      const actual = tidy(() => {
        const { x, phi, alpha, bias } = tensorsOf(inputs, device);
        const out = ops.mhcPre(x, { phi, alpha, bias });
        return [out.pre, out.post, out.res, out.input].map((t) => t.dataSync());
      });
      const f64 = (a: Float32Array) => Float64Array.from(a);
      const want = oracle.mhcPre(
        f64(inputs.x.values),
        f64(inputs.phi.values),
        f64(inputs.alpha.values),
        f64(inputs.bias.values),
        2,
        5129,
      );
      for (const [i, key] of (["pre", "post", "res", "input"] as const).entries())
        assertClose(actual[i]!, want[key], {
          scaled: float32Steps(coefficientSteps(c)),
          label: `${key} at ${magnitude}`,
        });
    }
  });

  test("T = 0, and any number of leading axes", () =>
    tidy(() => {
      const { phi, alpha, bias } = tensorsOf(
        connectionInputs({ n: 4, channels: 8, tokens: 1, logitScale: 1, dtype: "float32" }),
        device,
      );
      const none = Tensor.zeros([0, 4, 8], { device });
      const [, grads] = valueAndGrad(() => ops.sum(ops.mhcPre(none, { phi, alpha, bias }).input), [phi, none]);
      expect([...grads[0]!.dataSync()].every((v) => v === 0)).toBe(true);
      expect(ops.mhcPre(none, { phi, alpha, bias }).res.shape).toEqual([0, 4, 4]);
      const x = Tensor.randn([2, 3, 5, 4, 8], { seed: 1, device });
      expect(ops.mhcPre(x, { phi, alpha, bias }).post.shape).toEqual([2, 3, 5, 4]);
      expect(ops.mhcPre(Tensor.randn([4, 8], { seed: 1, device }), { phi, alpha, bias }).input.shape).toEqual([8]);
    }));

  test("the same bits at 1 and 2 threads, and for a token alone or in a batch", () => {
    for (const dtype of ["float32", "bfloat16"] as const) {
      const c = { n: 4, channels: 72, tokens: 331, logitScale: 2, dtype };
      const inputs = connectionInputs(c);
      const run = (from: number, to: number) =>
        tidy(() => {
          const { x, phi, alpha, bias } = tensorsOf(inputs, device);
          const part = ops.slice(x, 0, from, to);
          const weights = Tensor.from(cotangent(331 * 72, 3), [331, 72], { device });
          const [, grads] = valueAndGrad(
            () =>
              ops.sum(
                ops.mul(
                  ops.cast(ops.mhcPre(part, { phi, alpha, bias }).input, "float32"),
                  ops.slice(weights, 0, from, to),
                ),
              ),
            [part, phi, alpha, bias],
          );
          const { input, pre, post, res } = ops.mhcPre(part, { phi, alpha, bias });
          return [input, pre, post, res, ...grads].map((t) => t.dataSync());
        });
      setThreads(1);
      const one = run(0, 331);
      setThreads(2);
      for (const [i, v] of run(0, 331).entries()) assertBitwiseEqual(v, one[i]!, `2 threads, output ${i}`);
      for (const at of [0, 5, 16, 330]) {
        const alone = run(at, at + 1);
        // Everything per token: input, pre, post, res and dx. Gradients of parameters sum over the batch.
        for (const i of [0, 1, 2, 3, 4]) {
          const width = one[i]!.length / 331;
          assertBitwiseEqual(alone[i]!, one[i]!.slice(at * width, (at + 1) * width), `token ${at}, output ${i}`);
        }
      }
    }
  });

  test("says what is wrong", () =>
    tidy(() => {
      const good = tensorsOf(
        connectionInputs({ n: 4, channels: 8, tokens: 2, logitScale: 1, dtype: "float32" }),
        device,
      );
      const call =
        (changes: Partial<typeof good>, options: object = {}) =>
        () => {
          const { x, ...parameters } = { ...good, ...changes };
          return ops.mhcPre(x, parameters, options);
        };
      const zeros = (...shape: number[]) => Tensor.zeros(shape, { device });
      const gone = zeros(3);
      gone.dispose();
      const table: [() => unknown, string, string, RegExp][] = [
        [call({ x: zeros(2, 3, 8) }), "ShapeError", "ERR_SHAPE", /mhcPre: x has shape \[2, 3, 8\].*n = 1, 2, 4 or 8/],
        [call({ x: zeros(8) }), "ShapeError", "ERR_SHAPE", /x has shape \[8\], want at least 2 axes/],
        [call({ x: zeros(2, 4, 0) }), "ShapeError", "ERR_SHAPE", /C ≥ 1/],
        [call({ phi: zeros(24, 31) }), "ShapeError", "ERR_SHAPE", /phi has shape \[24, 31\], want \[24, 32\]/],
        [call({ alpha: zeros(1) }), "ShapeError", "ERR_SHAPE", /alpha/],
        [call({ bias: zeros(23) }), "ShapeError", "ERR_SHAPE", /bias/],
        [call({ alpha: gone }), "DisposedError", "ERR_DISPOSED", /alpha was disposed/],
        [call({ phi: good.phi.to("bfloat16") }), "DTypeError", "ERR_DTYPE", /phi is bfloat16, want float32/],
        [call({ x: Tensor.zeros([2, 4, 8], { dtype: "int32", device }) }), "DTypeError", "ERR_DTYPE", /x is int32/],
        [call({}, { iters: 0 }), "RangeError", "ERR_RANGE", /options.iters is 0, want an integer from 1 to 64/],
        [call({}, { iters: Number.NaN }), "RangeError", "ERR_RANGE", /options.iters is NaN/],
        [call({}, { normEps: -1 }), "RangeError", "ERR_RANGE", /options.normEps is -1/],
        [call({}, { sinkhornEps: 2 }), "RangeError", "ERR_RANGE", /options.sinkhornEps is 2/],
        [call({}, { convention: "row-first" }), "TypeError", "ERR_TYPE", /options.convention is "row-first"/],
        [call({}, { projection: "fp8" }), "TypeError", "ERR_TYPE", /options.projection is "fp8"/],
      ];
      table.push([call({ bias: 3 as unknown as Tensor }), "TypeError", "ERR_TYPE", /bias is 3, want a Tensor/]);
      for (const [run, name, code, message] of table) expectError(run, name, code, message);
    }));
});
