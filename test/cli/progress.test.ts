// What a terminal, a pipe and a JSON reader get.
import { describe, expect, it } from "vitest";
import { parseFlags } from "../../lib/cli/arguments.ts";
import { duration, metricsLine, reporter } from "../../lib/cli/progress.ts";

const metrics = { step: 10, loss: 2.5, gradNorm: 0.75, lr: 1e-3, tokensPerSecond: 12345.6, seconds: 5 };

function shown(options: { json: boolean; isTTY: boolean }): string {
  let text = "";
  const output = {
    isTTY: options.isTTY,
    columns: 60,
    write: (s: string) => {
      text += s;
    },
  };
  const report = reporter(output, { json: options.json, steps: 100 });
  report.note("hello");
  report.step(metrics);
  report.step({ ...metrics, step: 20, heldOutLoss: 2 });
  report.step({ ...metrics, step: 30 });
  report.event({ event: "end" });
  report.note("bye");
  report.end();
  return text;
}

describe("progress", () => {
  it("shows step, loss, gradient norm, speed and time left", () => {
    expect(metricsLine(metrics, 100)).toBe("step  10/100  loss 2.5000  gradient norm 0.750  12346 tokens/s  45s left");
    expect([0.4, 59.6, 125, 3725].map(duration)).toEqual(["0s", "1m 00s", "2m 05s", "1h 02m"]);
  });
  it("rewrites one line on a terminal, never wider than it", () => {
    const text = shown({ json: false, isTTY: true });
    expect(text.split("\r\x1b[K").length).toBe(4);
    // Kept lines: the remarks and the evaluation.
    expect(text.split("\n").length).toBe(5);
    for (const line of text.split(/[\n\r]/)) expect(line.replace("\x1b[K", "").length).toBeLessThan(60);
  });
  it("prints one line per step in a pipe", () => {
    const text = shown({ json: false, isTTY: false });
    expect(text).not.toContain("\r");
    expect(text.trim().split("\n").length).toBe(5);
  });
  it("prints nothing but JSON with --json", () => {
    const lines = shown({ json: true, isTTY: true }).trim().split("\n");
    expect(lines.map((l) => (JSON.parse(l) as { event: string }).event)).toEqual(["step", "step", "step", "end"]);
  });
});

describe("flags", () => {
  it("reads values with = and after a space", () => {
    const flags = { a: { value: "N", help: "" }, b: { help: "" } };
    expect([...parseFlags("x", flags, ["--a=1", "--b"])]).toEqual([
      ["a", "1"],
      ["b", true],
    ]);
    expect([...parseFlags("x", flags, ["--a", "-1"])]).toEqual([["a", "-1"]]);
    expect(() => parseFlags("x", flags, ["-a"])).toThrow(/unknown flag -a/);
  });
});
