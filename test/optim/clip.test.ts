// The global norm in float64, and what clipping does to gradients on either side of the bound.
import { describe, expect, it } from "vitest";
import { optim, Tensor } from "../../lib/index.ts";
import { testDevices } from "../support/devices.ts";
import { assertClose, float32Steps } from "../support/tolerance.ts";

describe.each(testDevices)("clipGradNorm on %s", (device) => {
  it("shrinks all gradients by one factor, only above the bound", async () => {
    const values = [5, 1000, 33].map((size, k) => Float32Array.from({ length: size }, (_, i) => Math.cos(i + k)));
    const norm = Math.sqrt(values.flatMap((v) => [...v]).reduce((sum, v) => sum + v * v, 0));
    for (const max of [0.5, 2 * norm, Infinity]) {
      const grads = values.map((v) => Tensor.from(v, [v.length], { device }));
      using got = optim.clipGradNorm(grads, max);
      // Partial sums of squares: at most one rounding per term on the longest path.
      assertClose(await got.data(), [norm], { relative: float32Steps(1100) });
      const factor = Math.min(1, max / norm);
      for (const [k, grad] of grads.entries()) {
        const data = await grad.data();
        if (factor === 1) expect(data).toEqual(values[k]);
        // The factor may carry a stabiliser of 1e-6 / ‖g‖ in its denominator.
        else
          assertClose(
            data,
            [...values[k]!].map((v) => v * factor),
            { relative: float32Steps(1100) + 1e-6 / norm },
          );
        grad.dispose();
      }
    }
  });

  it("reports a norm that is not finite", async () => {
    for (const bad of [Number.NaN, Infinity]) {
      using grad = Tensor.from([1, bad], [2], { device });
      using norm = optim.clipGradNorm([grad], 1);
      expect(Number.isFinite(await norm.item())).toBe(false);
    }
  });

  it("refuses bad arguments", () => {
    using grad = Tensor.ones([2], { device });
    expect(() => optim.clipGradNorm([], 1)).toThrow(/grads is \[\], want at least one tensor/);
    for (const max of [0, -1, Number.NaN]) expect(() => optim.clipGradNorm([grad], max)).toThrow(/max is/);
  });
});
