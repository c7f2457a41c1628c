/** mhcPost: values and gradients against the float64 oracle, bits, bad input. */
import { describe, expect, test } from "vitest";
import { ops, Tensor, tidy } from "../../lib/index.ts";
import { sizeFor, testDevices } from "../support/devices.ts";
import { expectError } from "../support/errors.ts";
import { gradcheck } from "../support/gradcheck.ts";
import * as oracle from "../support/oracle.ts";
import { assertSameAtAnyThreads, pullback } from "../support/pullback.ts";
import { cotangent, normal, uniform } from "../support/random.ts";
import { bfloat16Rounding, float32Steps } from "../support/tolerance.ts";

const inputs = (n: number, channels: number, tokens: number, dtype: "float32" | "bfloat16", magnitude = 1) => [
  { name: "x", shape: [tokens, n, channels], values: normal(tokens * n * channels, magnitude, 1), dtype },
  { name: "output", shape: [tokens, channels], values: normal(tokens * channels, magnitude, 2), dtype },
  { name: "post", shape: [tokens, n], values: uniform(tokens * n, 0, 2, 3) },
  { name: "res", shape: [tokens, n, n], values: uniform(tokens * n * n, 0, 1, 4) },
];

describe.each(testDevices)("mhcPost on %s", (device) => {
  for (const [n, channels, tokens] of [
    [1, 5, 4],
    [2, 40, 9],
    [4, 1, 3],
    [4, 1037, 3],
    [8, 31, 17],
  ] as const)
    for (const dtype of ["float32", "bfloat16"] as const)
      for (const magnitude of [1, 1e4])
        test(`n = ${n}, C = ${channels}, T = ${tokens}, ${dtype}, |x| about ${magnitude}`, () => {
          // A sum of n + 1 products; gradients of post and res sum over C.
          const store = dtype === "bfloat16" ? bfloat16Rounding : 0;
          gradcheck({
            inputs: inputs(n, channels, tokens, dtype, magnitude),
            op: (...t) => ops.mhcPost(t[0]!, t[1]!, t[2]!, t[3]!),
            oracle: (...a) => oracle.mhcPost(a[0]!, a[1]!, a[2]!, a[3]!, n, channels),
            value: { scaled: float32Steps(2 * (n + 1)), relative: store },
            gradient: { scaled: float32Steps(2 * (n + channels)), relative: store },
            device,
            samples: 60,
          });
        });

  test("the same bits at any thread count, also when the result is written past the caches; T = 0", () => {
    // 40 MiB of float32 results: beyond the size at which the CPU's kernel streams. CUDA's knows no such size.
    const [n, channels, tokens] = [4, 1024, sizeFor(device, 2560, 69)];
    const [x, output, post, res] = inputs(n, channels, tokens, "float32").map((i) =>
      Tensor.from(i.values, i.shape, { device }),
    ) as [Tensor, Tensor, Tensor, Tensor];
    const seeds = cotangent(x.size, 5);
    const run = () => {
      const { value, grads } = pullback(() => ops.mhcPost(x, output, post, res), [x, output, post, res], seeds);
      return [value, ...grads];
    };
    assertSameAtAnyThreads(run);
    // One token alone takes the ordinary path: streaming changes where bytes go, not what they are.
    const whole = run()[0]!;
    tidy(() => {
      const at = Math.floor(tokens / 2);
      const row = (t: Tensor) => ops.slice(t, 0, at, at + 1);
      const alone = ops.mhcPost(row(x), row(output), row(post), row(res)).dataSync();
      expect(alone).toEqual(whole.slice(at * n * channels, (at + 1) * n * channels));
      const none = (...shape: number[]) => Tensor.zeros([0, ...shape], { device });
      expect(ops.mhcPost(none(n, 8), none(8), none(n), none(n, n)).shape).toEqual([0, n, 8]);
    });
    for (const t of [x, output, post, res]) t.dispose();
  });

  test("says what is wrong", () =>
    tidy(() => {
      const zeros = (...shape: number[]) => Tensor.zeros(shape, { device });
      const [x, f, post, res] = [zeros(2, 4, 8), zeros(2, 8), zeros(2, 4), zeros(2, 4, 4)];
      const table: [() => unknown, string, string, RegExp][] = [
        [
          () => ops.mhcPost(zeros(2, 3, 8), f, post, res),
          "ShapeError",
          "ERR_SHAPE",
          /mhcPost: x has shape \[2, 3, 8\]/,
        ],
        [
          () => ops.mhcPost(x, zeros(2, 7), post, res),
          "ShapeError",
          "ERR_SHAPE",
          /output has shape \[2, 7\], want \[2, 8\]/,
        ],
        [() => ops.mhcPost(x, f, zeros(8), res), "ShapeError", "ERR_SHAPE", /post has shape \[8\], want \[2, 4\]/],
        [() => ops.mhcPost(x, f, post, zeros(2, 16)), "ShapeError", "ERR_SHAPE", /res has shape/],
        [
          () => ops.mhcPost(x, f.to("bfloat16"), post, res),
          "DTypeError",
          "ERR_DTYPE",
          /output is bfloat16, want x's float32/,
        ],
        [() => ops.mhcPost(x, f, post.to("bfloat16"), res), "DTypeError", "ERR_DTYPE", /post is bfloat16/],
      ];
      for (const [run, name, code, message] of table) expectError(run, name, code, message);
    }));
});
