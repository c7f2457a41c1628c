/** What the GPU benchmark counts and how it reads its marks; and how a run begins and what it leaves out, where there is a GPU or the executor. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { copyYardstick, fullSizes, gpuCases, runGpuOps, tinySizes } from "../../lib/bench/gpu.bench.ts";
import { Flush, gpuBytes, kernelName, samplesOf } from "../../lib/bench/support/gpu.ts";
import { timing } from "../../lib/bench/support/measure.ts";
import { Report } from "../../lib/bench/support/report.ts";
import { devices, memory, setDevice, setMemoryBudget, synchronize } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";

describe("bytes", () => {
  const cases = gpuCases({ ...fullSizes, tokens: [8192], channels: [4096], matrices: [32768] }, "bfloat16");
  const of = (name: string) => cases.find((c) => c.name === name)!;
  // One C of the specification's table, for all tokens in bfloat16.
  const C = 8192 * 4096 * 2;

  test.each([
    ["mhcPre forward", 9],
    ["mhcPost forward", 9],
    ["seam forward", 14],
    ["mhcPost + mhcPre forward", 18],
    ["mhcPost backward (prepare)", 10],
    ["mhcPre backward (finish)", 18],
    ["connection backward (prepare, finish)", 28],
    ["connect forward + backward", 46],
    ["expand", 5],
    ["contract", 5],
  ])("of %s: %i C a token", (name, perToken) => expect(gpuBytes(of(name))).toBe(perToken * C));

  test("of the kernels inside", () => {
    expect(of("mhcPre forward").gpuKernels).toEqual({ projection_bfloat16_kernel: 4 * C, collapse_kernel: 5 * C });
    expect(of("seam forward").gpuKernels).toEqual({ projection_bfloat16_kernel: 9 * C, collapse_kernel: 5 * C });
    expect(of("mhcPre backward (finish)").gpuKernels).toEqual({ grad_pre_kernel: 5 * C, finish_kernel: 13 * C });
  });

  test("of Sinkhorn: the matrices in float32, whatever the streams are", () => {
    expect(gpuBytes(of("sinkhorn forward"))).toBe(2 * 32768 * 16 * 4);
    expect(gpuBytes(of("sinkhorn backward"))).toBe(3 * 32768 * 16 * 4);
  });

  test("every size of the specification is there", () => {
    const shapes = new Set(gpuCases(fullSizes, "bfloat16").map((c) => c.shape));
    for (const T of [1, 40, 512, 4096, 8192, 32768])
      for (const channels of [1280, 2560, 4096, 7168]) expect(shapes).toContain(`T=${T} n=4 C=${channels}`);
    for (const count of [8192, 32768]) expect(shapes).toContain(`[${count}, 4, 4] 20 iterations`);
  });
});

test("a kernel is named without its namespaces, template and parameters", () => {
  const name = "void birkhoff::cuda::(anonymous namespace)::merge_kernel<4, true, float>(float const*, long)";
  expect(kernelName(name)).toBe("merge_kernel");
  expect(kernelName("birkhoff::cuda::fold(int)")).toBe("fold");
  expect(kernelName("kernel")).toBe("kernel");
});

test("marks become one sample each, with the time of each kernel since the mark before it", () => {
  const marks = [
    { name: "from", ms: 0 },
    { name: "to", ms: 2 },
    { name: "from", ms: 5 },
    { name: "void a_kernel<1>()", ms: 6 },
    { name: "b_kernel", ms: 9 },
    { name: "to", ms: 9.5 },
  ];
  expect(samplesOf(marks)).toEqual([
    { ms: 2, kernels: [] },
    {
      ms: 4.5,
      kernels: [
        { name: "a_kernel", ms: 1 },
        { name: "b_kernel", ms: 3 },
      ],
    },
  ]);
});

test("the yardstick is the faster of two copies, and both are told", () => {
  const copied = (driver: number, kernel: number) =>
    copyYardstick({
      copies: { driver: timing("driver", [driver]), kernel: timing("kernel", [kernel]) },
      copiedBytes: 6e6,
    });
  expect(copied(2, 3)).toEqual({
    best: 3,
    fields: { copy: "driver", copy_gb_per_s: 3, driver_copy_gb_per_s: 3, kernel_copy_gb_per_s: 2 },
  });
  expect(copied(3, 2)).toMatchObject({ best: 3, fields: { copy: "kernel", kernel_copy_gb_per_s: 3 } });
});

const gpu = devices().find((d) => d.available && d.name.startsWith("cuda"))?.name;

describe.runIf(gpu)("a run", () => {
  test("starts from a L2 that holds nothing to write back: a buffer is written, then another one read", () => {
    const flush = new Flush(gpu!, tinySizes.flush);
    try {
      native.takeMarks(gpu!);
      native.traceKernels(gpu!, true);
      flush.run();
      native.traceKernels(gpu!, false);
      expect(native.takeMarks(gpu!)).toHaveLength(2);
    } finally {
      flush.dispose();
    }
  });

  test("leaves out what does not fit in memory, and says so", async () => {
    const folder = mkdtempSync(join(tmpdir(), "birkhoff-bench-test-"));
    const before = setDevice(gpu!);
    try {
      const out = join(folder, "out.jsonl");
      const cases = gpuCases({ ...tinySizes, tokens: [1, 400] }, "float32").filter((c) => c.name === "expand");
      await synchronize();
      setMemoryBudget(memory().bytes + (1 << 18)); // [400, 4, 40] takes 256 KB alone
      await runGpuOps(new Report({ out }), { device: before, cases, sizes: tinySizes, repeats: 1, peers: false });
      const rows = readFileSync(out, "utf8").trim().split("\n");
      const parsed = rows.map((l) => JSON.parse(l) as Record<string, unknown>);
      expect(parsed[0]!.events_us).toBeGreaterThan(0);
      expect(parsed[1]).toMatchObject({ name: "expand", shape: "T=400 n=4 C=40" });
      expect(parsed[1]!.skipped).toContain("memory");
    } finally {
      setMemoryBudget(Infinity);
      setDevice("auto");
      rmSync(folder, { recursive: true });
    }
  });
});
