// birkhoff bench as its user meets it: rows, table, files, exit codes; and with a stand-in for Python beside it.
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { birkhoff, type CliOptions } from "../support/cli.ts";
import { testDevices } from "../support/devices.ts";

type Row = Record<string, unknown>;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "birkhoff-bench-"));
});
afterAll(() => rm(folder, { recursive: true }));

const parse = (text: string) =>
  text
    .trimEnd()
    .split("\n")
    .map((l) => JSON.parse(l) as Row);
const bench = (args: readonly string[], options?: CliOptions) => birkhoff(["bench", ...args], options);
const widest = (text: string) => Math.max(...text.split("\n").map((l) => l.length));
const gpu = testDevices.find((d) => d.startsWith("cuda"));

const opNames = [
  ...["sinkhorn forward", "sinkhorn backward", "mhcPre forward", "mhcPre backward (finish)", "mhcPost forward"],
  ...["mhcPost backward (prepare)", "seam forward", "expand", "contract", "connect forward + backward"],
];
const plainNames = [
  "linear forward + backward",
  "attention forward",
  "rmsNorm backward",
  "crossEntropy forward",
  "adamw",
];

it("--tiny on the CPU: every op and the steps, as JSON lines, table and figure", async () => {
  const [out, svg] = [join(folder, "cpu.jsonl"), join(folder, "cpu.svg")];
  const { code, stdout, stderr } = await bench(["--tiny", "--threads", "2", "--out", out, "--roofline", svg]);
  expect(code, stderr).toBe(0);
  expect(stdout).toBe("");
  expect(widest(stderr)).toBeLessThanOrEqual(80);
  const rows = parse(await readFile(out, "utf8"));
  const of = (name: string) => rows.find((r) => r.name === name)!;
  for (const name of [...opNames, ...plainNames, "peak matmul"]) {
    expect(stderr).toMatch(new RegExp(`^  ${name.replace(/[()+]/g, "\\$&")} +\\S`, "m"));
    const row = of(name);
    for (const key of ["median_ms", "p25", "p75", "bytes", "floor_ms", "gb_per_s", "share_of_copy", "copy_gb_per_s"])
      expect(row[key], `${key} of ${name}`).toBeGreaterThan(0);
    const { flops, gflop_per_s, intensity, bytes, median_ms, floor_ms, share_of_copy } = row as Record<string, number>;
    // Every figure is rounded to three or four digits.
    expect(gflop_per_s! / (flops! / median_ms! / 1e6)).toBeCloseTo(1, 2);
    expect(intensity! / (flops! / bytes!)).toBeCloseTo(1, 2);
    if (share_of_copy! > 0.05) expect(floor_ms! / median_ms! / share_of_copy!).toBeCloseTo(1, 1);
    expect(row).toMatchObject({ device: "cpu", threads: 2, repeats: 3 });
  }
  for (const name of ["step plain", "step mhc"])
    for (const key of ["median_ms", "tokens_per_s", "peak_bytes", "peak_rss"]) expect(of(name)[key]).toBeGreaterThan(0);
  expect(of("step mhc / plain").ratio).toBeGreaterThan(0);
  const figure = await readFile(svg, "utf8");
  expect(figure).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
  for (const name of [...opNames, "adamw"]) expect(figure).toContain(`>${name}</text>`);
  expect(figure).not.toContain("NaN");
  expect((await readdir(folder)).filter((f) => f.endsWith(".tmp"))).toEqual([]);
});

it("--json: the lines on standard output, no table; a filter and a dtype choose rows", async () => {
  const { code, stdout, stderr } = await bench([
    "--tiny",
    "--ops",
    "--json",
    "--filter",
    "linear",
    "--dtype",
    "bfloat16",
  ]);
  expect([code, stderr]).toEqual([0, ""]);
  expect(parse(stdout).map((r) => `${r.name} ${r.dtype}`)).toEqual([
    "linear forward bfloat16",
    "linear forward + backward bfloat16",
  ]);
});

it("--peers: a Python that is missing is said and left out", async () => {
  const { code, stdout, stderr } = await bench(["--tiny", "--peers", "--filter", "eager"], {
    before: "export BIRKHOFF_BENCH_PYTHON=/nowhere/python",
  });
  expect(code, stderr).toBe(0);
  expect(stderr).toMatch(/pytorch eager: skipped, spawn \/nowhere\/python ENOENT/);
  expect(widest(stderr)).toBeLessThanOrEqual(80);
  expect(parse(stdout).map((r) => r.name)).toEqual(["peer birkhoff"]);
});

/** In place of Python: checks that it was given a program that is there, and answers as `script` says. */
async function python(name: string, script: string): Promise<string> {
  const file = join(folder, name);
  const head = `#!${process.execPath}
const lines = require("node:readline").createInterface({ input: process.stdin });
if (!require("node:fs").existsSync(process.argv[2])) throw new Error("no program");
`;
  await writeFile(file, head + script);
  await chmod(file, 0o755);
  return file;
}

it("--peers: one that computes something else ends the run with exit code 1 and one line", async () => {
  const zeros = await python(
    "zeros",
    `const { readFileSync, writeFileSync } = require("node:fs");
const folder = process.argv.at(-1) + "/";
console.log('ready {"description": "zeros", "first_pass_s": 0}');
lines.on("line", (line) => {
  if (!line.startsWith("check")) return;
  for (const [name, like] of [["y", "x"], ["dx", "x"], ["dphi", "phi"], ["dalpha", "alpha"], ["dbias", "bias"]])
    writeFileSync(folder + "peer." + name, new Uint8Array(readFileSync(folder + like).length));
  console.log("checked");
});`,
  );
  const { code, stderr } = await bench(["--tiny", "--peers", "--filter", "eager", "--json"], {
    before: `export BIRKHOFF_BENCH_PYTHON=${zeros}`,
  });
  expect(stderr).toMatch(/\nbirkhoff: bench: pytorch eager: y is off by 1\.0e\+0 of its largest value[^\n]*\n$/);
  expect(code).toBe(1);
});

it("Ctrl-C: exit code 130, and the lines so far are whole", async () => {
  const out = join(folder, "stopped.jsonl");
  const { code, signal } = await bench(["--tiny", "--ops", "--repeats", "500", "--json", "--out", out], {
    onOutput: (text, child) => {
      if (text.includes("\n")) child.kill("SIGINT");
    },
  });
  expect([code, signal]).toEqual([130, null]);
  const rows = parse(await readFile(out, "utf8"));
  expect(rows[0]!.name).toBe("sinkhorn forward");
});

describe("what is refused", () => {
  it.each([
    [["--dtype", "int8"], /--dtype is int8, want one of float32, bfloat16/],
    [["--repeats", "0"], /--repeats is 0, want an integer from 1 to 10000/],
    [["--threads", "many"], /--threads is many, want an integer from 1 to 256/],
    [["--filter", "("], /--filter is \(, want a regular expression/],
    [["--filter", "nothing-like-it"], /--filter nothing-like-it matches no op/],
    [["--device", "none"], /device is "none"/],
    [["--out", "/nowhere/x.jsonl"], /--out \/nowhere\/x\.jsonl cannot be written/],
    [["--roofline", "/nowhere/x.svg"], /--roofline \/nowhere\/x\.svg cannot be written/],
    [["--roofline", "/tmp"], /--roofline \/tmp cannot be written/],
    [["--roofline", "x.svg", "--step"], /--roofline shows ops, want --ops with it/],
    [["--out", "x", "--roofline", "x"], /are the same file/],
    [["--rooflin", "x.svg"], /unknown flag --rooflin, did you mean --roofline\?/],
    [["linear"], /got the word "linear"/],
  ])("%j: exit code 2, one line", async (args, message) => {
    const { code, stdout, stderr } = await bench(args);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^birkhoff: [^\n]*\n$/);
    expect([code, stdout]).toEqual([2, ""]);
  });
});

it("--help fits 80 columns and needs no addon", async () => {
  const { code, stdout } = await bench(["--help"], { before: "export BIRKHOFF_ADDON=/nowhere.node" });
  expect(code).toBe(0);
  for (const flag of ["--ops", "--step", "--peers", "--device", "--dtype", "--tiny", "--filter", "--repeats"])
    expect(stdout).toContain(`  ${flag} `);
  for (const flag of ["--threads", "--out", "--roofline", "--json"]) expect(stdout).toContain(`  ${flag} `);
  expect(widest(stdout)).toBeLessThanOrEqual(80);
});

it("the package itself does not load it", async () => {
  const root = join(import.meta.dirname, "../..");
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: ["lib/index.ts"],
    bundle: true,
    packages: "external",
    platform: "node",
    format: "esm",
    write: false,
    metafile: true,
  });
  expect(Object.keys(metafile.inputs)).toContain("lib/native.ts");
  expect(Object.keys(metafile.inputs).filter((file) => /^lib\/(bench|cli)\//.test(file))).toEqual([]);
});

describe.runIf(gpu)("on a GPU", () => {
  it("--tiny: every kernel by events and by graph, with PyTorch beside, and the figure", async () => {
    const [out, svg] = [join(folder, "gpu.jsonl"), join(folder, "gpu.svg")];
    const torch = await python(
      "torch",
      `console.log('ready {"description": "PyTorch", "first_pass_s": 0}');
lines.on("line", (line) => {
  if (line.startsWith("case")) console.log('prepared {"forms": ["eager calls"], "failed": {"compiled calls": "no compiler"}}');
  if (line.startsWith("run")) console.log("times 1.5");
});`,
    );
    const flags = ["--device", gpu!, "--tiny", "--repeats", "2", "--peers", "--out", out, "--roofline", svg];
    const { code, stderr } = await bench(flags, { before: `export BIRKHOFF_BENCH_PYTHON=${torch}` });
    expect(code, stderr).toBe(0);
    expect(widest(stderr)).toBeLessThanOrEqual(80);
    expect(stderr).toContain("\nT=9 n=4 C=40 bfloat16\n");
    expect(stderr).toMatch(/^ {2}mhcPost forward +\d/m);
    expect(stderr).toContain("pytorch compiled calls: skipped, no compiler");
    const rows = parse(await readFile(out, "utf8"));
    const merge = rows.find((r) => r.name === "mhcPost forward" && r.shape === "T=9 n=4 C=40")!;
    expect(merge).toMatchObject({ dtype: "bfloat16", repeats: 2, bytes: 9 * 9 * 40 * 2, device: gpu });
    expect(merge).toMatchObject({ flops: 9 * 4 * 40 * 2 * 5 });
    const keys = ["events_us", "graph_us", "floor_us", "gb_per_s", "share_of_copy", "copy_gb_per_s", "empty_us"];
    for (const key of [...keys, "gflop_per_s", "intensity"]) expect(merge[key], key).toBeGreaterThan(0);
    expect(merge.copy_gb_per_s).toBe(Math.max(Number(merge.driver_copy_gb_per_s), Number(merge.kernel_copy_gb_per_s)));
    expect(rows.every((r) => r.bytes === undefined || Number(r.floor_us) > 0)).toBe(true);
    expect(rows.find((r) => r.name === "peer pytorch eager calls mhcPost forward")!.events_us).toBe(1500);
    expect(await readFile(svg, "utf8")).toMatch(/^<svg [\s\S]*>seam forward<\/text>[\s\S]*<\/svg>\n$/);
  });

  it("--step --tiny: both residuals", async () => {
    const { code, stdout, stderr } = await bench(["--device", gpu!, "--step", "--tiny", "--repeats", "1"]);
    expect(code, stderr).toBe(0);
    expect(parse(stdout).map((r) => r.name)).toEqual(["step plain", "step mhc", "step mhc / plain"]);
  });
});
