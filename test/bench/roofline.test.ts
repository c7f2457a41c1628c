/** The figure, read back as numbers: where points and roofs land, and that whatever rows there are make a whole document. */
import { describe, expect, test } from "vitest";
import { roofline } from "../../lib/bench/roofline.ts";
import type { Result } from "../../lib/bench/support/report.ts";

const conditions = { device: "cpu", cpu: "A Processor", threads: 2, simd: "avx2", date: "2026-01-02T03:04:05.000Z" };
const row = (name: string, gflops: number, intensity: number, more: Partial<Result> = {}): Result => ({
  name,
  shape: "T=1",
  dtype: "float32",
  bytes: 1e6,
  copy: "library",
  copy_gb_per_s: 10,
  gflop_per_s: gflops,
  intensity,
  ...conditions,
  ...more,
});
const rows = [
  row("peak matmul", 100, 50),
  row("mhcPost forward", 2, 1),
  row("sinkhorn forward", 20, 10, { dtype: "bfloat16" }),
  row("adamw", 0.5, 0.1),
];

/** Tags closed in order, one root, no stray ampersand: enough of XML for what the figure writes. */
function wellFormed(svg: string): void {
  const open: string[] = [];
  for (const [, close, name, empty] of svg.matchAll(/<(\/?)([a-zA-Z]+)(?:\s+[\w:-]+="[^"<]*")*\s*(\/?)>/g)) {
    if (close) expect(open.pop()).toBe(name);
    else if (!empty) open.push(name!);
  }
  expect(open).toEqual([]);
  expect(svg.replace(/<[^<>]*>/g, "")).not.toMatch(/[<>]|&(?!(amp|lt|gt|quot|#39);)/);
  expect(svg).toMatch(/^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"[^>]*>/);
  expect(svg).toMatch(/viewBox="0 0 \d+ \d+"/);
  expect(svg).not.toMatch(/NaN|Infinity|undefined|null/);
}

const circles = (svg: string) =>
  [...svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"[^>]*><title>(.*?)<\/title>/g)].map(([, x, y, title]) => ({
    x: Number(x),
    y: Number(y),
    title: title!,
  }));

describe("a figure", () => {
  const svg = roofline(rows);
  const of = (name: string) => circles(svg).find((c) => c.title.startsWith(name))!;
  const [post, sinkhorn, adamw] = [of("mhcPost"), of("sinkhorn"), of("adamw")];

  test("is one document with title, conditions, axes, legend", () => {
    wellFormed(svg);
    expect(svg).toContain('role="img"');
    expect(svg).toMatch(/<title id="title">Roofline of birkhoff on A Processor<\/title>\n<desc id="desc">.+<\/desc>/);
    expect(svg).toContain("device cpu · 2 threads, avx2 · float32 and bfloat16 · 2026-01-02");
    expect(svg).toContain("arithmetic intensity, FLOP/byte");
    expect(svg).toContain("rate, GFLOP/s");
    for (const name of ["mhcPost forward", "sinkhorn forward", "adamw"]) expect(svg).toContain(`>${name}</text>`);
    expect(svg).toContain("10 GB/s");
    expect(svg).toContain("100 GFLOP/s float32");
  });

  test("is logarithmic in both directions", () => {
    expect(circles(svg)).toHaveLength(3); // the peak is the roof, not a point
    const perDecade = sinkhorn.x - post.x; // 1 to 10
    expect(post.x - adamw.x).toBeCloseTo(perDecade, 0); // 0.1 to 1
    expect(post.y - sinkhorn.y).toBeGreaterThan(0); // 2 to 20, upwards
    expect((adamw.y - post.y) / (post.y - sinkhorn.y)).toBeCloseTo(Math.log10(4), 1); // 0.5 to 2
  });

  test("has its roof where bandwidth times intensity meets the peak", () => {
    const roofs = [...svg.matchAll(/d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)" class="roof"/g)].map((m) =>
      m.slice(1).map(Number),
    );
    const [slope, peak] = roofs as [number[], number[]];
    // 10 GB/s and 100 GFLOP/s meet at 10 FLOP/byte, which is where sinkhorn's points are.
    expect(slope[2]).toBeCloseTo(sinkhorn.x, 0);
    expect(slope.slice(2)).toEqual(peak.slice(0, 2));
    expect(peak[1]).toBe(peak[3]);
    // At 1 FLOP/byte the roof is 10 GFLOP/s, half way in logarithms from 2 (a factor of 5) …
    const perDecade = post.y - sinkhorn.y;
    const roofAtOne = slope[1]! + ((slope[3]! - slope[1]!) * (post.x - slope[0]!)) / (slope[2]! - slope[0]!);
    expect((post.y - roofAtOne) / perDecade).toBeCloseTo(Math.log10(5), 1);
    // … so that mhcPost is at 20 %.
    expect(svg).toMatch(/>mhcPost forward<\/text>\n.*\n.*>2<\/text>\n.*>20 %<\/text>/);
  });

  test("is made for light and dark", () => {
    expect(svg).toMatch(/\.paper \{ fill: #fff; \}[\s\S]*@media \(prefers-color-scheme: dark\)[\s\S]*\.paper/);
  });
});

test("names are escaped", () => {
  const svg = roofline([row(`a<b>&"c'\u0001`, 1, 1, { cpu: "<script>&", shape: '"]]>' })]);
  wellFormed(svg);
  expect(svg).toContain("a&lt;b&gt;&amp;&quot;c&#39;");
  expect(svg).not.toContain("<script>");
  expect(svg).not.toContain("\u0001");
});

test.each<[string, Result[]]>([
  ["no rows", []],
  ["one row", [rows[1]!]],
  ["only a roof", [rows[0]!]],
  ["rows of other kinds", [{ name: "step plain", shape: "", dtype: "float32", median_ms: 1 }]],
  ["a rate of zero and none at all", [row("a", 0, 1), row("b", Number.NaN, 1), row("c", 1, Number.POSITIVE_INFINITY)]],
  ["a skipped row", [{ name: "seam", shape: "T=1", dtype: "bfloat16", skipped: "out of memory", ...conditions }]],
  ["points without a roof", [row("a", 1, 1, { copy_gb_per_s: undefined })]],
])("%s: a whole document", (_, given) => wellFormed(roofline(given)));

test("many ops: each has a number in the plot, no two numbers on each other", () => {
  const many = Array.from({ length: 20 }, (_, i) =>
    Array.from({ length: 8 }, (_, k) => row(`op ${i}`, 10 + (i % 3) + k, 1 + 0.1 * (i % 4) + 0.1 * k)),
  ).flat();
  const svg = roofline([rows[0]!, ...many]);
  wellFormed(svg);
  const plot = svg.slice(0, svg.indexOf("op, at the size"));
  const numbers = [...plot.matchAll(/<text x="([\d.]+)" y="([\d.]+)" class="number middle \w+">(\d+)</g)].map((m) =>
    m.slice(1).map(Number),
  ) as [number, number, number][];
  expect(new Set(numbers.map(([, , n]) => n)).size).toBe(20);
  for (const [i, [x, y]] of numbers.entries())
    for (const [ox, oy] of numbers.slice(i + 1)) expect(Math.abs(x - ox) >= 7.9 || Math.abs(y - oy) >= 10.9).toBe(true);
});
