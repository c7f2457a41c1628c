/**
 * What ptxas said of the kernels when this addon was compiled, without a GPU: the hot ones keep nothing in memory. `npm run ptxas`
 * asks the same for sm_80, 90a, 100 and 120 and writes native/cuda/registers.md.
 */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { complaints, hotKernels, type KernelUsage, parseReport, readReports } from "../../scripts/ptxas_report.ts";

const build = fileURLToPath(new URL("../../build", import.meta.url));
const cache = existsSync(`${build}/CMakeCache.txt`) ? readFileSync(`${build}/CMakeCache.txt`, "utf8") : "";
const hasNvcc = /^NVCC:.*(?<!NOTFOUND)$/m.test(cache);

describe.skipIf(!hasNvcc)("ptxas' report of this build (not looked at: there was no nvcc)", () => {
  it("no hot kernel spills or has a frame for anything but rare tokens, on any architecture that was compiled", () => {
    const usages = readReports(build);
    const architectures = [...new Set(usages.map((u) => u.architecture))];
    expect(architectures).not.toEqual([]);
    expect(complaints(usages, architectures)).toEqual([]);
  });
});

describe("reading ptxas", () => {
  const name = "_ZN8birkhoff4cuda12_GLOBAL__N_112merge_kernelILi4ELb1EfEEvPKT1_S4_PKfS6_PS2_l";
  const report = (frame: string) => `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '${name}' for 'sm_90'
ptxas info    : Function properties for ${name}
    ${frame}
ptxas info    : Used 62 registers, used 1 barriers, 640 bytes smem, 424 bytes cmem[0]
ptxas info    : Compile time = 43.639 ms
`;
  const clean = "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads";
  const merge: KernelUsage = {
    file: "mhc_post.cu",
    kernel: "merge_kernel<4, true, float>",
    architecture: "sm_90",
    registers: 62,
    stack: 0,
    spillStores: 0,
    spillLoads: 0,
    shared: 640,
  };

  it("takes the numbers of each kernel, under a name that can be read", () => {
    expect(parseReport("mhc_post.cu", report(clean))).toEqual([merge]);
    expect(parseReport("mhc_post.cu", "")).toEqual([]);
  });

  it("refuses what it does not understand, rather than find no spills in it", () => {
    expect(() => parseReport("mhc_post.cu", report("no stack"))).toThrow(
      /cannot read what ptxas says of .*merge_kernel/,
    );
  });

  it("complains about a spill, a stack frame, and a hot kernel that is not there", () => {
    const spilled = parseReport(
      "mhc_post.cu",
      report("16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads"),
    );
    const found = complaints(spilled, ["sm_90"]);
    expect(found).toContain(
      "mhc_post.cu merge_kernel<4, true, float> on sm_90: 16 bytes of stack, spills 12 stored, 8 loaded",
    );
    for (const { what } of hotKernels)
      expect(
        found.some((line) => line.startsWith(`${what} (`)),
        what,
      ).toBe(true);
    expect(complaints([{ ...merge, stack: 8 }], ["sm_90"]).join()).toMatch(/8 bytes of stack/);
    expect(complaints([merge], ["sm_90"]).join()).not.toMatch(/merge_kernel<4, true, float> on/);
    // An unaligned tail, say: in the table, and no failure.
    expect(complaints([{ ...merge, kernel: "merge_kernel<4, false, float>", stack: 8 }], ["sm_90"]).join()).not.toMatch(
      /bytes of stack/,
    );
  });

  it("knows the frame of what Sinkhorn does for rare tokens, and allows no more than that", () => {
    const sinkhorn = { ...merge, file: "sinkhorn.cu", kernel: "sinkhorn_backward_kernel<4>" };
    const of = (changes: Partial<KernelUsage>) => complaints([{ ...sinkhorn, ...changes }], ["sm_90"]).join();
    expect(of({ stack: 416, spillStores: 16, spillLoads: 32 })).not.toMatch(/sinkhorn_backward_kernel<4> on/);
    expect(of({ stack: 2000 })).toMatch(/2000 bytes of stack/);
    expect(of({ stack: 416, spillStores: 64 })).toMatch(/spills 64 stored/);
  });
});
