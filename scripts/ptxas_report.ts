/**
 * What ptxas said of each kernel when the addon was compiled: registers, stack, spills, static shared memory. The build keeps it
 * beside the objects (cmake/keep_ptxas_report.sh).
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { kernelNames, markdownTable } from "./cuda_kernels.ts";

export interface KernelUsage {
  /** "seam.cu", where each is compiled by itself. */
  file: string;
  /** "projection_float32_kernel<8, false, true>" */
  kernel: string;
  /** "sm_90" */
  architecture: string;
  registers: number;
  /** Bytes per thread. */
  stack: number;
  spillStores: number;
  spillLoads: number;
  /** Bytes per block; dynamic shared memory is not in it. */
  shared: number;
}

export interface HotKernel {
  what: string;
  file: string;
  pattern: RegExp;
  instances: number;
}

const streams = "(2|4|8)";
export const dtype = "(float|bfloat16)";
/** The kernels whose speed decides a training step, by the template parameters that count (see the .cu files). */
export const hotKernels: readonly HotKernel[] = [
  hot("merge", "mhc_post.cu", `merge_kernel<${streams}, true, ${dtype}>`, 6),
  hot("seam", "seam.cu", `projection_(float32|bfloat16)_kernel<${streams}, true, true>`, 6),
  hot("stats", "mhc_pre.cu", `projection_(float32|bfloat16)_kernel<${streams}, true, false>`, 6),
  hot("collapse", "collapse.cu", `collapse_kernel<${streams}, (true|false)>`, 6),
  hot("prepare", "mhc_post.cu", `prepare_kernel<${streams}, true, ${dtype}>`, 6),
  hot("coefficient backward: dpre", "coefficient_backward.cu", `grad_pre_kernel<${streams}, true, ${dtype}>`, 6),
  hot("coefficient backward", "coefficient_backward.cu", `coefficient_kernel<${streams}, (true|false)>`, 6),
  hot("finish", "mhc_pre_backward.cu", `finish_kernel<${streams}, true, ${dtype}, \\(Given\\)(0|1)>`, 12),
  hot("Sinkhorn forward", "sinkhorn.cu", `sinkhorn_forward_kernel<${streams}>`, 3),
  hot("Sinkhorn backward", "sinkhorn.cu", `sinkhorn_backward_kernel<${streams}>`, 3),
];

export function hot(what: string, file: string, pattern: string, instances: number): HotKernel {
  return { what, file, pattern: new RegExp(`^${pattern}$`), instances };
}

export const isHot = (usage: KernelUsage): boolean => hotKernels.some((h) => h.pattern.test(usage.kernel));

/** Reads a report of one source file. */
export function parseReport(file: string, text: string): KernelUsage[] {
  const number = (pattern: RegExp, from: string) => Number(pattern.exec(from)?.[1] ?? 0);
  const parts = text.split("Compiling entry function '").slice(1);
  const names = kernelNames(parts.map((part) => part.slice(0, part.indexOf("'"))));
  return parts.map((part, i) => {
    const registers = /Used (\d+) registers/.exec(part)?.[1];
    const frame = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(part);
    if (!registers || !frame) throw new Error(`${file}: cannot read what ptxas says of ${names[i]}:\n${part}`);
    return {
      file,
      kernel: names[i]!,
      architecture: /for '(\w+)'/.exec(part)![1]!,
      registers: Number(registers),
      stack: Number(frame[1]),
      spillStores: Number(frame[2]),
      spillLoads: Number(frame[3]),
      shared: number(/(\d+) bytes smem/, part),
    };
  });
}

/** The reports of all kernel files of a build folder, or of what includes several of them; empty where it has none. */
export function readReports(build: string): KernelUsage[] {
  const folder = join(build, "CMakeFiles/cuda_kernels.dir");
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ptxas"));
  return names.flatMap((name) =>
    parseReport(basename(name).replace(".o.ptxas", ""), readFileSync(join(folder, name), "utf8")),
  );
}

/** What is wrong: a hot kernel that is missing, or that keeps registers in memory. Empty: nothing. */
export function complaints(usages: readonly KernelUsage[], architectures: readonly string[]): string[] {
  const found: string[] = [];
  for (const architecture of architectures) {
    const compiled = usages.filter((usage) => usage.architecture === architecture);
    for (const { what, file, pattern, instances } of hotKernels) {
      const have = compiled.filter((usage) => pattern.test(usage.kernel)).length;
      if (have !== instances)
        found.push(`${what} (${file}): ${have} kernels for ${architecture} match ${pattern.source}, want ${instances}`);
    }
    for (const { file, kernel, stack, spillStores, spillLoads } of compiled.filter(isHot)) {
      // What native/ops/sinkhorn_lost.h works on is in a frame; around its call, which is rare, registers are kept there.
      const rare = /^(sinkhorn_(for|back)ward_kernel<\d>|(collapse|coefficient)_kernel<\d, false>)$/.test(kernel);
      const [frame, spills] = rare ? [1500, 48] : [0, 0];
      if (stack > frame || spillStores > spills || spillLoads > 2 * spills)
        found.push(
          `${file} ${kernel} on ${architecture}: ${stack} bytes of stack, spills ${spillStores} stored, ${spillLoads} loaded`,
        );
    }
  }
  return found;
}

type Column = (usages: readonly KernelUsage[]) => string;

/** The registers, and what is in memory instead, if anything is. */
const registers: Column = (usages) => {
  if (usages.length === 0) return "–";
  const most = (of: (usage: KernelUsage) => number) => Math.max(...usages.map(of));
  const memory = most((u) => Math.max(u.stack, u.spillStores, u.spillLoads));
  return `${most((u) => u.registers)}${memory > 0 ? ` + ${memory} B of memory` : ""}`;
};

function rows(architectures: readonly string[], named: ReadonlyMap<string, KernelUsage[]>): string {
  const cells = [["kernel", ...architectures, "shared memory, bytes"]];
  for (const [name, usages] of named)
    cells.push([
      name,
      ...architectures.map((architecture) => registers(usages.filter((u) => u.architecture === architecture))),
      String(Math.max(...usages.map((u) => u.shared))),
    ]);
  return markdownTable(cells);
}

function grouped(usages: readonly KernelUsage[], nameOf: (usage: KernelUsage) => string): Map<string, KernelUsage[]> {
  const groups = new Map<string, KernelUsage[]>();
  for (const usage of usages) {
    const name = nameOf(usage);
    groups.set(name, [...(groups.get(name) ?? []), usage]);
  }
  return new Map([...groups].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The table that reviews read: hot kernels one by one, the others by their template, at their largest. */
export function table(usages: readonly KernelUsage[], architectures: readonly string[], nvcc: string): string {
  let text = `# Registers per thread of the CUDA kernels

Written by \`npm run ptxas\` with nvcc ${nvcc}; no GPU is needed. A kernel that spilled or had a stack frame would say so beside its
registers ("+ 16 B of memory"). Shared memory is what is static; the launchers ask for the dynamic part. Names are those of the
source files: streams n first, then the 16-byte path, the merge or the head, and the dtype.

## Hot kernels, on their vector path
`;
  for (const { what, file, pattern } of hotKernels) {
    const own = usages.filter((usage) => usage.file === file && pattern.test(usage.kernel));
    text += `\n### ${what} (${file})\n\n${rows(
      architectures,
      grouped(own, (u) => `\`${u.kernel}\``),
    )}`;
  }
  const others = usages.filter((usage) => !isHot(usage));
  text += `\n## The others, at the largest of their instances\n\n`;
  const name = (u: KernelUsage) => `${u.file} \`${u.kernel.replace(/<.*/, "")}\``;
  return text + rows(architectures, grouped(others, name));
}
