/** What stands in the loops of the watched kernels, what of it should not, and the table of it. */
import { kernelNames, markdownTable } from "../cuda_kernels.ts";
import { type Access, access, type Code, type Instruction, isBarrier, isCall, isMatrix, isSpecial } from "./code.ts";
import { type Exception, type WatchedKernel, watchedKernels } from "./hot_kernels.ts";
import { loadsInFlight, loopsOf, ownPart } from "./loops.ts";

/** Counts of a loop, or of what is in no loop. */
export interface Part {
  instructions: number;
  /** Global memory, by bytes per access. Copies go to shared memory (cp.async). */
  loads: Map<number, number>;
  stores: Map<number, number>;
  copies: Map<number, number>;
  sharedLoads: number;
  sharedStores: number;
  matrix: number;
  barriers: number;
  special: number;
  inFlight: { loads: number; bytes: number };
}

export interface KernelCode {
  /** "seam.cu" */
  file: string;
  /** "projection_float32_kernel<8, true, true>" */
  kernel: string;
  calls: number;
  local: number;
  /** Each without the loops in it. */
  loops: Part[];
  outside: Part;
}

/** PTX's stores of single floats, and those through generic addresses: ptxas joins what are neighbours. */
const mayBeJoined = ({ op }: Instruction): boolean => /^st\.(global\.f32|[bfu]\d+)$/.test(op);

function measurePart(code: Code, part: readonly number[], ptx: boolean): Part {
  const instructions = part.map((at) => code.instructions[at] as Instruction);
  const accesses = instructions
    .filter((instruction) => !ptx || !mayBeJoined(instruction))
    .map(access)
    .filter((a) => a !== undefined);
  const bytes = (what: Access["what"]) => {
    const counts = new Map<number, number>();
    for (const a of accesses)
      if (a.what === what && a.space === "global") counts.set(a.bytes, (counts.get(a.bytes) ?? 0) + 1);
    return new Map([...counts].sort(([a], [b]) => b - a));
  };
  const shared = (what: Access["what"]) => accesses.filter((a) => a.space === "shared" && a.what === what).length;
  return {
    instructions: part.length,
    loads: bytes("load"),
    stores: bytes("store"),
    copies: bytes("copy"),
    sharedLoads: shared("load"),
    sharedStores: shared("store"),
    matrix: instructions.filter(isMatrix).length,
    barriers: instructions.filter(isBarrier).length,
    special: instructions.filter(isSpecial).length,
    inFlight: ptx ? { loads: 0, bytes: 0 } : loadsInFlight(code, part),
  };
}

/** Measures the kernels of one source file. */
export function measure(file: string, codes: readonly Code[], language: "sass" | "ptx"): KernelCode[] {
  const names = kernelNames(codes.map((code) => code.name));
  return codes.map((code, i) => {
    const loops = loopsOf(code);
    const inside = new Set(loops.flat());
    const ptx = language === "ptx";
    return {
      file,
      kernel: names[i]!,
      calls: code.instructions.filter(isCall).length,
      local: code.instructions.filter((instruction) => access(instruction)?.space === "local").length,
      loops: loops.map((loop) => measurePart(code, ownPart(loop, loops), ptx)),
      outside: measurePart(
        code,
        [...code.instructions.keys()].filter((at) => !inside.has(at)),
        ptx,
      ),
    };
  });
}

const total = (counts: Map<number, number>, which: (bytes: number) => boolean): number =>
  [...counts].reduce((sum, [bytes, count]) => sum + (which(bytes) ? count : 0), 0);

/** A loop that moves data at full width, or multiplies it: one without is a path for what is not aligned, or sums up. */
export const isVectorLoop = (loop: Part, width: number): boolean =>
  loop.matrix > 0 || [loop.loads, loop.stores, loop.copies].some((counts) => total(counts, (b) => b >= width) > 0);

export const instancesOf = (watched: WatchedKernel, codes: readonly KernelCode[]): KernelCode[] =>
  codes.filter((code) => code.file === watched.file && watched.pattern.test(code.kernel));

/** What of a kernel an exception may be for. */
function faults(code: KernelCode, width: number): Record<Exception["what"], number> {
  const loops = code.loops.filter((loop) => isVectorLoop(loop, width));
  const narrow = (counts: Map<number, number>) => total(counts, (bytes) => bytes < width);
  return {
    "narrow loads": Math.max(0, ...loops.map((loop) => narrow(loop.loads) + narrow(loop.copies))),
    "narrow stores": Math.max(0, ...loops.map((loop) => narrow(loop.stores))),
    calls: code.calls,
    "local memory": code.local,
  };
}

const described: Readonly<Record<Exception["what"], (count: number, width: number) => string>> = {
  "narrow loads": (count, width) => `${count} loads of less than ${width} bytes in one loop`,
  "narrow stores": (count, width) => `${count} stores of less than ${width} bytes in one loop`,
  calls: (count) => `${count} calls`,
  "local memory": (count) => `${count} accesses to local memory`,
};

/**
 * What is wrong (empty: nothing), and which exceptions have become too large.
 *
 * @param watched those to look for, a part of `watchedKernels` where not all files were compiled
 */
export function judge(
  codes: readonly KernelCode[],
  language: "sass" | "ptx",
  watched: readonly WatchedKernel[] = watchedKernels,
): { complaints: string[]; notes: string[] } {
  const complaints: string[] = [];
  const notes: string[] = [];
  for (const kernel of watched) {
    const found = instancesOf(kernel, codes);
    if (found.length !== kernel.instances)
      complaints.push(
        `${kernel.what} (${kernel.file}): ${found.length} kernels match ${kernel.pattern.source}, want ${kernel.instances}`,
      );
    for (const code of found) {
      const name = `${code.file} ${code.kernel}`;
      const width = kernel.width(code.kernel);
      for (const [what, count] of Object.entries(faults(code, width)) as [Exception["what"], number][]) {
        const exception = kernel.exceptions.find((e) => e.what === what && (!e.of || e.of.test(code.kernel)));
        const most = exception?.most ?? 0;
        const text = `${name}: ${described[what](count, width)}`;
        if (count > most) complaints.push(exception ? `${text}, known are ${most} (${exception.why})` : text);
        // PTX has neither the slow paths nor the spills.
        else if (count < most && language === "sass")
          notes.push(`${text}, fewer than the ${most} known: lower the number in scripts/sass/hot_kernels.ts`);
      }
      // PTX has stores in pieces that ptxas puts together.
      if (language === "ptx") continue;
      for (const what of ["loads", "stores"] as const) {
        const wide = [...code.loops, code.outside].reduce((sum, part) => sum + total(part[what], (b) => b >= width), 0);
        if (wide < kernel.wide[what])
          complaints.push(`${name}: ${wide} ${what} of ${width} bytes, want at least ${kernel.wide[what]}`);
      }
    }
  }
  return { complaints, notes };
}

const widths = (counts: Map<number, number>): string =>
  [...counts].map(([bytes, count]) => `${count} × ${bytes}`).join(", ") || "–";
const count = (n: number): string => (n === 0 ? "–" : String(n));

function row(part: Part): string[] {
  const { loads, bytes } = part.inFlight;
  return [
    String(part.instructions),
    widths(part.loads),
    widths(part.stores),
    widths(part.copies),
    loads === 0 ? "–" : `${loads}: ${bytes} B`,
    count(part.matrix),
    part.sharedLoads + part.sharedStores === 0 ? "–" : `${part.sharedLoads} / ${part.sharedStores}`,
    count(part.barriers),
    count(part.special),
  ];
}

const head = [
  ...[
    "kernel",
    "registers",
    "calls",
    "local memory",
    "loop",
    "instructions",
    "global loads",
    "global stores",
    "copies",
  ],
  ...["in flight", "HMMA", "shared loads / stores", "BAR", "MUFU"],
];

/**
 * The table that reviews read.
 *
 * @param registers of a kernel, by file and name
 * @param tools     "nvcc 13.0.88 and nvdisasm 12.4.127"
 */
export function table(
  codes: readonly KernelCode[],
  registers: (file: string, kernel: string) => number | undefined,
  tools: string,
  watched: readonly WatchedKernel[] = watchedKernels,
): string {
  let text = `# Instructions of the CUDA kernels for sm_90a

Written by \`npm run sass -- --write\` with ${tools}; no GPU is needed.
Registers, calls and accesses to local memory are the kernel's; then one row per loop that reads or writes at full width or
multiplies on tensor cores, without the loops in it. A kernel that has none: what is outside its loops, and the longest of them.
Loads, stores and copies to shared memory (cp.async) are those of global memory, as count × bytes per thread. In flight: the most
loads of the loop that are on their way at once, none of them used yet, in the order of the listing. What is narrow, or called, on
purpose stands with its reason in scripts/sass/hot_kernels.ts.
`;
  for (const kernel of watched) {
    const cells = [head];
    for (const code of instancesOf(kernel, codes).sort((a, b) => (a.kernel < b.kernel ? -1 : 1))) {
      // Loops that only copy fetch what another one reads from shared memory.
      const loops = code.loops
        .filter((part) => isVectorLoop({ ...part, copies: new Map() }, kernel.width(code.kernel)))
        .map((part, i) => ({ name: String(i + 1), part }));
      if (loops.length === 0) {
        loops.push({ name: "none", part: code.outside });
        const longest = code.loops.toSorted((a, b) => b.instructions - a.instructions)[0];
        if (longest) loops.push({ name: "longest", part: longest });
      }
      const own = [
        `\`${code.kernel}\``,
        count(registers(code.file, code.kernel) ?? 0),
        count(code.calls),
        count(code.local),
      ];
      for (const [i, { name, part }] of loops.entries())
        cells.push([...(i === 0 ? own : ["", "", "", ""]), name, ...row(part)]);
    }
    text += `\n## ${kernel.what} (${kernel.file})\n\n${markdownTable(cells)}`;
  }
  return text;
}
