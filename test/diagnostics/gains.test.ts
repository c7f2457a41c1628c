// Gains of the matrices printed in the mHC paper's figure 8, of matrices with known sums, and of a real network.
import { describe, expect, it } from "vitest";
import { diagnostics, memory, noGrad, Tensor, tidy } from "../../lib/index.ts";
import { testDevices } from "../support/devices.ts";
import { tinyModel } from "../support/tiny.ts";

// mHC figure 8, layer 1; printed with two decimals, so a sum of four is known to 0.02.
const layer1 = [0.67, 0.09, 0.03, 0.22, 0.26, 0.48, 0.26, 0.0, 0.03, 0.24, 0.0, 0.73, 0.03, 0.2, 0.69, 0.09];
const printed = { rows: [1.0, 1.0, 1.0, 1.0], columns: [0.98, 1.0, 0.98, 1.04] };

describe("gains", () => {
  it("gives the sums printed beside the paper's matrix", () => {
    const { rows, columns } = diagnostics.lineSums(Float64Array.from(layer1), 4);
    for (let i = 0; i < 4; i++) {
      expect(Math.abs(rows[i]! - printed.rows[i]!)).toBeLessThanOrEqual(0.0201);
      expect(Math.abs(columns[i]! - printed.columns[i]!)).toBeLessThanOrEqual(0.0201);
    }
    const g = diagnostics.gains(Float64Array.from(layer1), 4);
    expect(Math.abs(g.backward - 1.04)).toBeLessThanOrEqual(0.0201);
    expect(Math.abs(g.forward - 1)).toBeLessThanOrEqual(0.0201);
  });

  it("takes magnitudes: the unconstrained composite's sums are negative", () => {
    // HC composite 1–60: row sums −475.3, −462.8, 509.1, −498.5; column sums −259.2, −219.1, −228.2, −221.0. Their totals differ
    // as printed sums do, so any matrix with these row sums, and another with these column sums, stands in.
    const rowSums = [-475.3, -462.8, 509.1, -498.5];
    const columnSums = [-259.2, -219.1, -228.2, -221.0];
    const byRows = Float64Array.from({ length: 16 }, (_, k) => rowSums[k >> 2]! / 4);
    const byColumns = Float64Array.from({ length: 16 }, (_, k) => columnSums[k & 3]! / 4);
    expect(diagnostics.gains(byRows, 4).forward).toBeCloseTo(509.1, 9);
    expect(diagnostics.gains(byRows, 4).rowError).toBeCloseTo(508.1, 9);
    expect(diagnostics.gains(byColumns, 4).backward).toBeCloseTo(259.2, 9);
    expect(diagnostics.gains(byColumns, 4).columnError).toBeCloseTo(260.2, 9);
  });

  it("averages gains over tokens, and takes the worst error", () => {
    const res = Float32Array.of(1, 0, 0, 1, 2, 1, 0, 1);
    expect(diagnostics.gains(res, 2)).toEqual({ forward: 2, backward: 1.5, rowError: 2, columnError: 1 });
  });

  it("multiplies later mappings from the left, token by token", () => {
    const a = Float32Array.of(1, 2, 3, 4, 1, 0, 0, 1);
    const b = Float32Array.of(0, 1, 1, 0, 5, 6, 7, 8);
    expect([...diagnostics.composite([a, b], 2)]).toEqual([3, 4, 1, 2, 5, 6, 7, 8]);
    expect([...diagnostics.composite([a], 2)]).toEqual([...a]);
    const g = diagnostics.gainReport([a, b], 2);
    expect(g.connections.length).toBe(2);
    expect(g.composite).toEqual(diagnostics.gains(diagnostics.composite([a, b], 2), 2));
  });

  it("lets NaN through and refuses what is no matrix", () => {
    expect(diagnostics.gains(Float32Array.of(Number.NaN), 1).forward).toBeNaN();
    expect(diagnostics.gains(Float32Array.of(Number.NaN), 1).rowError).toBeNaN();
    expect(() => diagnostics.gains(new Float32Array(5), 2)).toThrow(
      /res has 5 values, want a positive multiple of n² = 4/,
    );
    expect(() => diagnostics.gains(new Float32Array(0), 2)).toThrow(/res has 0 values/);
    expect(() => diagnostics.composite([], 2)).toThrow(/list is empty/);
    expect(() => diagnostics.composite([new Float32Array(4), new Float32Array(8)], 2)).toThrow(
      /list\[1\] has 8 values/,
    );
  });
});

describe.each(testDevices)("record on %s", (device) => {
  it("captures the first sequence of every connection, and detaches", async () => {
    using model = tinyModel({ device, layers: 2, residual: { kind: "mhc", streams: 4, phiStd: 0.5 } });
    const before = memory();
    const forward = (values: number[], rows: number) => () => {
      using tokens = Tensor.from(Int32Array.from(values), [rows, values.length / rows], { device });
      return tidy(() => noGrad(() => model.forward(tokens)));
    };
    const two = diagnostics.record(model, forward([1, 2, 3, 4, 5, 6], 2));
    const one = diagnostics.record(model, forward([1, 2, 3], 1));
    const reports = [await two.report(), await one.report()];
    for (const r of [one, two]) r.result.dispose();
    expect(reports[0]!.connections.length).toBe(4);
    for (const [l, gains] of reports[0]!.connections.entries()) {
      expect(gains.rowError).toBeLessThan(1e-5);
      expect(gains.columnError).toBeCloseTo(reports[1]!.connections[l]!.columnError, 5);
    }
    for (const connection of model.connections()) expect(connection.onCoefficients).toBeUndefined();
    expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
  });

  it("reports nothing for the plain residual, and frees after an error", async () => {
    using plain = tinyModel({ device, residual: { kind: "plain" } });
    expect(await diagnostics.record(plain, () => 5).report()).toBeUndefined();
    for (const other of [null, {}])
      expect(() => diagnostics.record(other as never, () => 5)).toThrow(/record: model is /);
    using model = tinyModel({ device });
    const before = memory();
    using tokens = Tensor.from(Int32Array.of(1, 2), [1, 2], { device });
    expect(() =>
      diagnostics.record(model, () =>
        tidy(() => {
          noGrad(() => model.forward(tokens));
          throw new Error("mine");
        }),
      ),
    ).toThrow("mine");
    tokens.dispose();
    expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
  });
});
