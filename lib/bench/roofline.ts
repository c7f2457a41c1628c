/**
 * The roofline of a run (Williams, Waterman and Patterson, 2009) as an SVG: y ≤ min(bandwidth · x, peak), with x in FLOP/byte and y in
 * GFLOP/s, both logarithmic. Bandwidth and peak are rows of the same run: the fastest copy, and a large square matrix product.
 */
import { peakName } from "./ops/product.bench.ts";
import { round } from "./support/measure.ts";
import type { Result } from "./support/report.ts";
import { wrap } from "./support/table.ts";

const width = 640;
const plot = { left: 70, right: 622, height: 400 };
const lineHeight = 17;

const escapes: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
/** Control characters go: XML has no way to write them. */
const escaped = (text: string) => text.replace(/\p{Cc}/gu, " ").replace(/[&<>"']/g, (c) => escapes[c]!);
const shown = (value: number) => round(value, 3).toLocaleString("en-US", { maximumSignificantDigits: 3 });
const at = (value: number) => String(Math.round(value * 10) / 10);
const positive = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value) && value > 0;

interface Point {
  name: string;
  size: string;
  dtype: string;
  intensity: number;
  gflops: number;
}

interface Roof {
  /** GB/s or GFLOP/s. */
  rate: number;
  label: string;
}

/** What the rows of a run have to show; rows of steps and other libraries have nothing. */
function read(rows: readonly Result[]) {
  const points: Point[] = [];
  const copies: { rate: number; bytes: number; how: string }[] = [];
  const peaks: Roof[] = [];
  for (const r of rows) {
    if (positive(r.copy_gb_per_s)) copies.push({ rate: r.copy_gb_per_s, bytes: Number(r.bytes), how: String(r.copy) });
    if (!positive(r.gflop_per_s) || !positive(r.intensity)) continue;
    if (r.name === peakName) peaks.push({ rate: r.gflop_per_s, label: `${shown(r.gflop_per_s)} GFLOP/s ${r.dtype}` });
    else
      points.push({
        name: r.name,
        size: r.shape,
        dtype: r.dtype,
        intensity: r.intensity,
        gflops: r.gflop_per_s,
      });
  }
  const fastest = copies.reduce<(typeof copies)[0] | undefined>((a, b) => (a && a.rate >= b.rate ? a : b), undefined);
  const largest = copies.reduce<(typeof copies)[0] | undefined>((a, b) => (a && a.bytes >= b.bytes ? a : b), undefined);
  const slope = (c: typeof fastest): Roof[] => (c ? [{ rate: c.rate, label: `${shown(c.rate)} GB/s` }] : []);
  // What fits the caches is copied in the caches: then the largest copy says what memory gives.
  const apart = fastest && largest && largest.rate < 0.85 * fastest.rate;
  return {
    points,
    slopes: [...slope(fastest), ...(apart ? slope(largest) : [])],
    peaks: peaks.sort((a, b) => b.rate - a.rate),
    fastest,
  };
}

const steps = [1, 2, 5, 10];
const rounded = (value: number, up: boolean) => {
  const decade = 10 ** Math.floor(Math.log10(value));
  const fits = steps.filter((s) => (up ? s * decade >= value * 0.999 : s * decade <= value * 1.001));
  return (up ? fits[0]! : fits.at(-1)!) * decade;
};

interface Axis {
  low: number;
  high: number;
  /** Labelled ones; between them lines alone. */
  ticks: number[];
  lines: number[];
}

function axis(values: readonly number[]): Axis {
  const some = values.length > 0 ? values : [1];
  const [low, high] = [rounded(Math.min(...some) / 1.5, false), rounded(Math.max(...some) * 1.5, true)];
  const decades = Math.log10(high / low);
  const lines: number[] = [];
  for (let d = Math.floor(Math.log10(low)); d <= Math.ceil(Math.log10(high)); d++)
    for (const s of decades > 2.5 ? [1] : [1, 2, 5]) {
      const value = Number(`${s}e${d}`);
      if (value >= low * 0.999 && value <= high * 1.001) lines.push(value);
    }
  // Not so many that labels touch.
  const every = Math.ceil(lines.length / 10);
  return { low, high, lines, ticks: lines.filter((_, i) => i % every === 0) };
}

interface Box {
  x: number;
  y: number;
  w: number;
  h: number;
}
const touches = (a: Box, b: Box) => Math.abs(a.x - b.x) < (a.w + b.w) / 2 && Math.abs(a.y - b.y) < (a.h + b.h) / 2;

interface Mark extends Point {
  number: number;
  x: number;
  y: number;
}

/**
 * A place for each number beside its mark, on rings around it. The first mark of an op gets one in any case; the others only where
 * there is room close by.
 */
function placed(marks: readonly Mark[], inside: (box: Box) => boolean) {
  const taken: Box[] = marks.map(({ x, y }) => ({ x, y, w: 8, h: 8 }));
  const labels: { mark: Mark; x: number; y: number; far: boolean }[] = [];
  const named = new Set<number>();
  for (const first of [true, false])
    for (const mark of marks) {
      if (named.has(mark.number) === first) continue;
      const w = mark.number > 9 ? 14 : 8;
      const rings = first ? [10, 14, 19, 25, 32, 40, 50, 62] : [10];
      const box = rings
        .flatMap((r) => [0, 7, 1, 6, 2, 5, 3, 4].map((k) => ({ r, angle: (k * Math.PI) / 4 })))
        .map(({ r, angle }) => ({ x: mark.x + r * Math.cos(angle), y: mark.y + r * Math.sin(angle), w, h: 11, r }))
        .find((b) => inside(b) && !taken.some((t) => touches(t, b)));
      if (!box) continue;
      taken.push(box);
      labels.push({ mark, x: box.x, y: box.y, far: box.r > 14 });
      if (first) named.add(mark.number);
    }
  return labels;
}

const style = `
text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #1c1e21; }
.title { font-size: 16px; font-weight: 600; } .soft { fill: #5c6370; } .number { font-size: 10.5px; font-weight: 600; } .small { font-size: 10.5px; }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.paper { fill: #fff; } .grid { stroke: #e3e5e8; } .frame { stroke: #8b919a; fill: none; } .leader { stroke: #8b919a; stroke-width: 0.7; }
.roof { stroke: #1c1e21; stroke-width: 2; fill: none; } .lower { stroke: #5c6370; stroke-dasharray: 5 4; fill: none; }
.streams { fill: #1a5fb4; stroke: #1a5fb4; } .rest { fill: #b4510d; stroke: #b4510d; }
circle { stroke-width: 1.5; } circle.bfloat16 { fill: #fff; } text.streams, text.rest { stroke: none; }
@media (prefers-color-scheme: dark) {
text { fill: #e6e8eb; } .soft { fill: #a2a9b4; } .paper, circle.bfloat16 { fill: #15171b; } .grid { stroke: #2c3036; }
.roof { stroke: #e6e8eb; } .lower { stroke: #a2a9b4; } .streams { fill: #7db3f5; stroke: #7db3f5; } .rest { fill: #f2a35e; stroke: #f2a35e; }
circle.bfloat16 { fill: #15171b; } text.streams, text.rest { stroke: none; }
}`;

const family = (name: string) => (/^(sinkhorn|mhc|seam|connect|expand|contract)/.test(name) ? "streams" : "rest");

/**
 * Draws the rows of a run.
 *
 * @param rows  as in the JSON lines. Points: rows with `gflop_per_s` and `intensity`; roof: the highest `copy_gb_per_s` and the rows
 *              named "peak matmul"; conditions from the last row
 * @returns     a whole SVG document, readable on light and dark ground
 */
export function roofline(rows: readonly Result[]): string {
  const { points, slopes, peaks, fastest } = read(rows);
  const last: Partial<Result> = rows.at(-1) ?? {};
  const dtypes = [...new Set(points.map((p) => p.dtype))];
  const roofAt = (x: number) => Math.min(peaks[0]?.rate ?? Infinity, (slopes[0]?.rate ?? Infinity) * x);
  const ridge = slopes[0] && peaks[0] && peaks[0].rate / slopes[0].rate;

  const title = `Roofline of birkhoff on ${last.gpu ?? last.cpu ?? "an unknown machine"}`;
  const conditions = [
    last.device === undefined ? "" : `device ${last.device}`,
    last.gpu === undefined
      ? `${last.threads ?? "?"} threads, ${last.simd ?? "?"}`
      : String(last.gpu_gemm ?? "").replace(/ \(.*/, ""),
    dtypes.join(" and "),
    String(last.date ?? "").slice(0, 10),
  ].filter(Boolean);
  const head = [...wrap(title, 66).split("\n"), ...wrap(conditions.join(" · "), 92).split("\n")];
  const titleLines = wrap(title, 66).split("\n").length;
  const top = 16 + head.length * 20 + 8;
  const bottom = top + plot.height;

  const xs = axis([...points.map((p) => p.intensity), ...(ridge ? [ridge] : [])]);
  const ys = axis([...points.map((p) => p.gflops), ...peaks.map((p) => p.rate)]);
  const scale =
    ({ low, high }: Axis, from: number, to: number) =>
    (value: number) =>
      from + ((to - from) * Math.log(value / low)) / Math.log(high / low);
  const [x, y] = [scale(xs, plot.left, plot.right), scale(ys, bottom, top)];

  const body: string[] = [];
  const text = (px: number, py: number, content: string, classes = "", more = "") =>
    body.push(`<text x="${at(px)}" y="${at(py)}"${classes && ` class="${classes}"`}${more}>${escaped(content)}</text>`);
  const path = (d: string, classes: string) => body.push(`<path d="${d}" class="${classes}" clip-path="url(#plot)"/>`);
  const line = (x1: number, y1: number, x2: number, y2: number) => `M${at(x1)} ${at(y1)}L${at(x2)} ${at(y2)}`;

  for (const [i, l] of head.entries()) text(16, 28 + i * 20, l, i < titleLines ? "title" : "soft");
  for (const v of xs.lines) body.push(`<path d="${line(x(v), top, x(v), bottom)}" class="grid"/>`);
  for (const v of ys.lines) body.push(`<path d="${line(plot.left, y(v), plot.right, y(v))}" class="grid"/>`);
  for (const v of xs.ticks) text(x(v), bottom + 18, shown(v), "middle");
  for (const v of ys.ticks) text(plot.left - 8, y(v) + 4, shown(v), "end");
  text((plot.left + plot.right) / 2, bottom + 38, "arithmetic intensity, FLOP/byte", "middle");
  const middle = (top + bottom) / 2;
  text(16, middle, "rate, GFLOP/s", "middle", ` transform="rotate(-90 16 ${at(middle)})"`);
  body.push(
    `<rect x="${plot.left}" y="${at(top)}" width="${plot.right - plot.left}" height="${plot.height}" class="frame"/>`,
  );

  // Lower roofs: memory behind the caches, the product of the slower dtype.
  const slopeTo = (rate: number, end: number) => line(x(xs.low), y(rate * xs.low), x(end), y(rate * end));
  const peakFrom = (rate: number, start: number) => line(x(start), y(rate), plot.right, y(rate));
  const top0 = peaks[0]?.rate ?? Infinity;
  for (const s of slopes.slice(1)) path(slopeTo(s.rate, Math.min(xs.high, top0 / s.rate)), "lower");
  for (const p of peaks.slice(1)) path(peakFrom(p.rate, slopes[0] ? p.rate / slopes[0].rate : xs.low), "lower");
  if (slopes[0]) path(slopeTo(slopes[0].rate, Math.min(xs.high, top0 / slopes[0].rate)), "roof");
  if (peaks[0]) path(peakFrom(peaks[0].rate, ridge ?? xs.low), "roof");
  // Names stand above the roof, where no point can be.
  const [slope, peak] = [slopes[0], peaks[0]];
  if (peak) {
    const room = ridge !== undefined && x(ridge) - plot.left > 150;
    if (room) text(x(ridge) - 10, y(peak.rate) + 4, peak.label, "end");
    else text(plot.right - 6, y(peak.rate) - 7, peak.label, "end");
  }
  if (slope) {
    const start = Math.max(xs.low, ys.low / slope.rate) * (xs.high / xs.low) ** 0.04;
    const [px, py] = [x(start), y(slope.rate * start)];
    const angle = (-180 / Math.PI) * Math.atan2(y(1) - y(10), x(10) - x(1));
    if (py > top + 12) text(px, py, slope.label, "", ` transform="rotate(${at(angle)} ${at(px)} ${at(py)})" dy="-7"`);
  }

  const names = [...new Set(points.map((p) => p.name))];
  const marks: Mark[] = points
    .map((p) => ({ ...p, number: names.indexOf(p.name) + 1, x: x(p.intensity), y: y(p.gflops) }))
    .sort((a, b) => b.gflops - a.gflops);
  const within = (b: Box) =>
    b.x - b.w / 2 > plot.left && b.x + b.w / 2 < plot.right && b.y - b.h / 2 > top && b.y + b.h / 2 < bottom;
  const labels = placed(marks, within);
  for (const { mark, x: lx, y: ly, far } of labels)
    if (far) body.push(`<path d="${line(mark.x, mark.y, lx, ly)}" class="leader"/>`);
  for (const m of marks)
    body.push(
      `<circle cx="${at(m.x)}" cy="${at(m.y)}" r="3.2" class="${family(m.name)} ${escaped(m.dtype)}"><title>${escaped(
        `${m.name} ${m.size} ${m.dtype}: ${shown(m.gflops)} GFLOP/s, ${shown(m.intensity)} FLOP/byte`,
      )}</title></circle>`,
    );
  for (const { mark, x: lx, y: ly } of labels)
    text(lx, ly + 4, String(mark.number), `number middle ${family(mark.name)}`);

  let row = bottom + 66;
  const next = (content: () => void) => {
    content();
    row += lineHeight;
  };
  if (points.length === 0) next(() => text(16, row, "No row has both a rate and an intensity."));
  else
    next(() => {
      text(16, row, "op, at the size where it computes fastest", "soft");
      text(560, row, "GFLOP/s", "end soft");
      text(plot.right, row, "% of roof", "end soft");
    });
  for (const [i, name] of names.entries())
    next(() => {
      const best = marks.find((m) => m.name === name)!;
      text(34, row, String(i + 1), `number end ${family(name)}`);
      text(44, row, name);
      text(288, row, `${best.size} ${best.dtype}`.slice(0, 42), "soft small");
      text(560, row, shown(best.gflops), "end");
      const roof = roofAt(best.intensity);
      if (Number.isFinite(roof)) text(plot.right, row, `${Math.round((100 * best.gflops) / roof)} %`, "end");
    });
  row += 6;
  const notes = [
    "Blue: hyper-connections; orange: the rest of a network. Filled: float32; hollow: bfloat16. A point's tooltip has its name, size and figures.",
    fastest &&
      `Slope: the fastest copy of the run (${fastest.how}, ${shown(fastest.bytes / 1e6)} MB read and written).`,
    slopes[1] && `Dashed slope: the copy of the largest op, ${slopes[1].label}.`,
    peak && "Roof: a large square matrix product, measured in the same run.",
    ...peaks.slice(1).map((p) => `Dashed: the same product, ${p.label}.`),
  ];
  for (const note of notes)
    for (const l of note ? wrap(note, 98).split("\n") : []) next(() => text(16, row, l.trim(), "soft"));

  const height = Math.ceil(row + 4);
  const about = [...labels.map((l) => l.mark)]
    .filter((m, i, all) => all.findIndex((o) => o.number === m.number) === i)
    .map((m) => `${m.name} ${shown(m.gflops)} GFLOP/s at ${shown(m.intensity)} FLOP/byte`);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" style="max-width:100%;height:auto" role="img" aria-labelledby="title desc">
<title id="title">${escaped(title)}</title>
<desc id="desc">${escaped(`GFLOP/s over FLOP/byte, both logarithmic. ${[...slopes, ...peaks].map((r) => r.label).join("; ")}. ${about.join("; ")}`)}</desc>
<style>${style}
</style>
<defs><clipPath id="plot"><rect x="${plot.left}" y="${at(top)}" width="${plot.right - plot.left}" height="${plot.height}"/></clipPath></defs>
<rect width="${width}" height="${height}" class="paper"/>
${body.join("\n")}
</svg>
`;
}
