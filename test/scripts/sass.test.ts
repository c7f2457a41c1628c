/** Reading machine code and PTX, on small kernels made by hand; and the table of the real ones. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { hotKernels } from "../../scripts/ptxas_report.ts";
import { parsePtx, parseSass } from "../../scripts/sass/code.ts";
import { connectionRules, type WatchedKernel, watchedKernels } from "../../scripts/sass/hot_kernels.ts";
import { loadsInFlight, loopsOf, ownPart } from "../../scripts/sass/loops.ts";
import { judge, measure, table } from "../../scripts/sass/report.ts";

const root = join(import.meta.dirname, "../..");
const name = "_ZN8birkhoff4cuda12_GLOBAL__N_112merge_kernelILi4ELb1EfEEvPKT1_S4_PKfS6_PS2_l"; // merge_kernel<4, true, float>

/** A kernel as nvdisasm lists it. */
function listing(...lines: string[]): string {
  let address = 0;
  const line = (text: string) =>
    /:$/.test(text)
      ? text
      : `        /*${(16 * address++).toString(16).padStart(4, "0")}*/                   ${text} ;`;
  return `	.headerflags	@"EF_CUDA_SM90"
	.section	.debug_frame,"",@progbits
        /*0000*/ 	.byte	0xff
//--------------------- .text.${name} --------------------------
	.section	.text.${name},"ax",@progbits
	.align	128
.text.${name}:
        .type           ${name},@function
${name}:
${lines.map(line).join("\n")}
`;
}

const watched = (more: Partial<WatchedKernel> = {}): WatchedKernel[] => [
  {
    what: "merge",
    file: "mhc_post.cu",
    pattern: /^merge_kernel<4, true, float>$/,
    instances: 1,
    wide: { loads: 0, stores: 0 },
    width: () => 16,
    exceptions: [],
    ...more,
  },
];
const sass = (...lines: string[]) => measure("mhc_post.cu", parseSass(listing(...lines)), "sass");
const complaints = (codes: ReturnType<typeof sass>, more?: Partial<WatchedKernel>) =>
  judge(codes, "sass", watched(more)).complaints;

const wideLoop = [
  "LDG.E R2, desc[UR4][R4.64]",
  ".L_x_0:",
  "LDG.E.128 R8, desc[UR4][R4.64]",
  "LDG.E.128.CONSTANT R12, desc[UR4][R6.64]",
  "FADD R8, R8, R12",
  "STG.E.128 desc[UR4][R16.64], R8",
  "@!P0 BRA `(.L_x_0)",
  "STG.E desc[UR4][R18.64], R9",
  "EXIT",
];
/** Rows that are not aligned: a loop of its own, with narrow accesses only. */
const scalarLoop = [
  ".L_x_9:",
  "LDG.E.U16 R2, desc[UR4][R4.64]",
  "STG.E desc[UR4][R4.64], R2",
  "@P0 BRA `(.L_x_9)",
  "EXIT",
];
const narrowLoop = [
  ".L_x_0:",
  "LDG.E.128 R8, desc[UR4][R4.64]",
  "STG.E desc[UR4][R16.64], R8",
  "@P1 STG.E desc[UR4][R16.64+0x4], R9",
  "LDG.E.U16 R20, desc[UR4][R16.64+0x4]",
  "@!P0 BRA `(.L_x_0)",
  "EXIT",
];

describe("machine code", () => {
  it("is counted per loop: widths, tensor cores, shared memory, barriers", () => {
    const [code] = sass(...wideLoop);
    expect(code!.kernel).toBe("merge_kernel<4, true, float>");
    expect(code!.loops).toHaveLength(1);
    expect(code!.loops[0]).toMatchObject({ instructions: 5, loads: new Map([[16, 2]]), stores: new Map([[16, 1]]) });
    expect(code!.outside).toMatchObject({ instructions: 3, loads: new Map([[4, 1]]), stores: new Map([[4, 1]]) });
    const [other] = sass(
      ".L_x_0:",
      "LDGSTS.E.BYPASS.128 [R3], desc[UR4][R4.64]",
      "BAR.SYNC.DEFER_BLOCKING 0x0",
      "LDSM.16.M88.4 R4, [R3]",
      "STS.64 [R3], R8",
      "HMMA.16816.F32.BF16 R8, R4, R6, R8",
      "@P0 MUFU.RCP R3, R3",
      "BRA P0, `(.L_x_0)",
    );
    expect(other!.loops[0]).toMatchObject({
      copies: new Map([[16, 1]]),
      matrix: 1,
      sharedLoads: 1,
      sharedStores: 1,
      barriers: 1,
      special: 1,
    });
  });

  it("passes where all is wide, and outside of loops, and in a loop of narrow accesses only", () => {
    expect(complaints(sass(...wideLoop))).toEqual([]);
    expect(complaints(sass(...scalarLoop))).toEqual([]);
  });

  it("complains about narrow accesses beside wide ones, calls and local memory", () => {
    expect(complaints(sass(...narrowLoop))).toEqual([
      "mhc_post.cu merge_kernel<4, true, float>: 1 loads of less than 16 bytes in one loop",
      "mhc_post.cu merge_kernel<4, true, float>: 2 stores of less than 16 bytes in one loop",
    ]);
    const called = sass("CALL.REL.NOINC `($__internal_0_$__cuda_sm3x_div_rn_noftz_f32_slowpath)", ...wideLoop);
    expect(complaints(called).join()).toMatch(/: 1 calls$/);
    expect(complaints(sass("STL [R1], R2", "LDL.64 R2, [R1+0x8]", ...wideLoop)).join()).toMatch(
      /: 2 accesses to local memory$/,
    );
    // Eight bytes are all that a lane has, say.
    const eight = narrowLoop.map((line) => line.replace(/STG\.E |LDG\.E\.U16/, (op) => `${op.slice(0, 5)}.64 `));
    expect(complaints(sass(...eight))).toHaveLength(2);
    expect(complaints(sass(...eight), { width: () => 8 })).toEqual([]);
  });

  it("complains about more than is known, and asks to lower the number where there is less", () => {
    const known = (most: number): Partial<WatchedKernel> => ({
      exceptions: [
        { what: "narrow stores", most, why: "sums" },
        { what: "narrow loads", most: 1, why: "an index", of: /float/ },
      ],
    });
    expect(complaints(sass(...narrowLoop), known(1)).join()).toMatch(/2 stores .*, known are 1 \(sums\)$/);
    expect(judge(sass(...narrowLoop), "sass", watched(known(2)))).toEqual({ complaints: [], notes: [] });
    const { complaints: none, notes } = judge(sass(...narrowLoop), "sass", watched(known(3)));
    expect(none).toEqual([]);
    expect(notes.join()).toMatch(/fewer than the 3 known: lower the number/);
  });

  it("complains about a kernel that is not there, and one whose wide accesses are gone", () => {
    expect(complaints([]).join()).toMatch(/^merge \(mhc_post.cu\): 0 kernels match .*, want 1$/);
    expect(complaints(sass(...scalarLoop), { wide: { loads: 1, stores: 1 } })).toEqual([
      "mhc_post.cu merge_kernel<4, true, float>: 0 loads of 16 bytes, want at least 1",
      "mhc_post.cu merge_kernel<4, true, float>: 0 stores of 16 bytes, want at least 1",
    ]);
  });

  it("refuses what it cannot read", () => {
    expect(() => sass("{what}")).toThrow(/cannot read the instruction "{what}"/);
  });

  it("finds loops by where jumps lead: nested, through meeting points, and not through what stands behind the end", () => {
    const [code] = parseSass(
      listing(
        ".L_x_0:",
        "IADD3 R1, R1, 0x1, RZ", // 0: the outer loop
        ".L_x_1:",
        "LDG.E.128 R8, desc[UR4][R4.64]", // 1: the inner one
        "BSSY B0, `(.L_x_2)",
        "@P0 BRA `(.L_x_5)", // 3: to the slow path
        "BSYNC B0",
        ".L_x_2:",
        "@P1 BRA `(.L_x_1)", // 5
        "@P2 BRA `(.L_x_0)", // 6
        "EXIT", // 7
        ".L_x_5:",
        "FADD R8, R8, R8", // 8: the slow path, part of the inner loop
        "BSYNC B0",
        ".L_x_6:",
        "BRA `(.L_x_6)", // 10: padding, never reached
      ),
    );
    const loops = loopsOf(code!);
    expect(loops).toEqual([
      [0, 1, 2, 3, 4, 5, 6, 8, 9],
      [1, 2, 3, 4, 5, 8, 9],
    ]);
    expect(ownPart(loops[0]!, loops)).toEqual([0, 6]);
    expect(ownPart(loops[1]!, loops)).toEqual(loops[1]);
  });

  it("counts the loads that are on their way before the first is used, also into the next round", () => {
    const [code] = parseSass(
      listing(
        ".L_x_0:",
        "FADD R2, R11, R2", // the last word of the second load, one round ago
        "LDG.E.128 R4, desc[UR4][R20.64]",
        "FADD R3, R4.reuse, R3",
        "LDG.E.128 R8, desc[UR4][R22.64]",
        "LDG.E R30, desc[UR4][R24.64]",
        "@P0 BRA `(.L_x_0)",
      ),
    );
    const [loop] = loopsOf(code!);
    // R8 .. R11, then R30 and what the listing has not used when the next round starts.
    expect(loadsInFlight(code!, loop!)).toEqual({ loads: 2, bytes: 20 });
    const [prefetching] = parseSass(
      listing(
        ".L_x_0:",
        "LDG.E.128 R4, desc[UR4][R20.64]",
        "LDG.E.128 R8, desc[UR4][R22.64]",
        "HMMA.16816.F32.BF16 R12, R4, R8, R12",
        "@P0 BRA `(.L_x_0)",
      ),
    );
    expect(loadsInFlight(prefetching!, loopsOf(prefetching!)[0]!)).toEqual({ loads: 2, bytes: 32 });
  });
});

describe("PTX", () => {
  const ptx = (body: string) =>
    measure(
      "mhc_post.cu",
      parsePtx(`.version 9.0
.target sm_90a
.visible .entry ${name}(
	.param .u64 ${name}_param_0
)
.maxntid 256, 1, 1
{
	.reg .b32 	%r<9>;
	ld.param.u64 	%rd1, [${name}_param_0];
${body}
	ret;

}
`),
      "ptx",
    );
  const loop = (...lines: string[]) => `$L__BB0_1:
	// inside
	ld.global.nc.v4.f32 	{%f1, %f2, %f3, %f4}, [%rd1];
${lines.join("\n")}
	@%p1 bra 	$L__BB0_1;`;
  const found = (body: string) => judge(ptx(body), "ptx", watched()).complaints.join("\n");

  it("is counted per loop, instructions of inline assembly too", () => {
    const assembly = `	// begin inline asm
	{
.reg .pred p;
setp.ne.s32 p, %r1, 0;
@p st.global.v4.b32 [%rd2], {%r1,%r2,%r3,%r4};
}
	// end inline asm
	cp.async.cg.shared.global [%r1], [%rd2], 16;
	cp.async.commit_group;
	mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4},{%r1,%r2,%r3,%r4},{%r5,%r6},{%f1,%f2,%f3,%f4};
	bar.sync 	0;`;
    const [code] = ptx(loop(assembly));
    expect(code!.kernel).toBe("merge_kernel<4, true, float>");
    expect(code!.loops).toHaveLength(1);
    expect(code!.loops[0]).toMatchObject({
      loads: new Map([[16, 1]]),
      stores: new Map([[16, 1]]),
      copies: new Map([[16, 1]]),
      matrix: 1,
      barriers: 1,
    });
    expect(found(loop(assembly))).toBe("");
  });

  it("complains about narrow stores, calls and local memory; not about floats, which ptxas may join", () => {
    expect(found(loop("	st.global.u32 	[%rd2], %r1;", "	st.global.v2.u32 	[%rd2+8], {%r1, %r2};"))).toMatch(
      /: 2 stores of less than 16 bytes in one loop$/,
    );
    expect(found(loop("	st.global.f32 	[%rd2], %f1;"))).toBe("");
    expect(found(loop("	ld.global.u16 	%rs1, [%rd2];"))).toMatch(/: 1 loads of less than 16 bytes in one loop$/);
    expect(found("	call.uni (retval0), \n	vprintf, \n	(\n	param0\n	);")).toMatch(/: 1 calls$/);
    expect(found("	.local .align 16 .b8 	__local_depot0[64];\n	st.local.v2.f32 	[%rd3], {%f1, %f2};")).toMatch(
      /: 1 accesses to local memory$/,
    );
  });
});

describe("the kernels", () => {
  it("are all in the committed table", () => {
    const text = readFileSync(join(root, "native/cuda/instructions.md"), "utf8");
    for (const { what, file, pattern, instances } of watchedKernels) {
      const section = text.split("\n## ").find((part) => part.startsWith(`${what} (${file})\n`));
      const names = [...(section ?? "").matchAll(/^\| `(.*?)`/gm)].map((match) => match[1]!);
      expect(names.filter((n) => pattern.test(n)).length, what).toBe(instances);
    }
  });

  it("have rules and exceptions that are for one of them, each with a reason", () => {
    expect(Object.keys(connectionRules).filter((key) => !hotKernels.some(({ what }) => what === key))).toEqual([]);
    for (const { exceptions } of watchedKernels) for (const { why } of exceptions) expect(why).toMatch(/\w{3}/);
  });

  it("are rows of a table: one per loop that moves data, the kernel's own numbers in the first", () => {
    const rows = table(sass(...narrowLoop), () => 40, "nvcc 1 and nvdisasm 2", watched()).split("\n");
    const cells = rows.find((row) => row.includes("merge_kernel<4"))!.split(/ *\| */);
    expect(cells.slice(1, 11)).toEqual([
      "`merge_kernel<4, true, float>`",
      "40",
      "–",
      "–",
      "1",
      "5",
      "1 × 16, 1 × 2",
      "2 × 4",
      "–",
      "2: 18 B",
    ]);
    const [outside, longest] = table(
      sass(".L_x_0:", "FADD R1, R1, R1", "@P0 BRA `(.L_x_0)", "STG.E.128 desc[UR4][R4.64], R8", "EXIT"),
      () => 40,
      "",
      watched(),
    )
      .split("\n")
      .slice(-3);
    expect(outside).toMatch(/\| none +\| 2 .*1 × 16/);
    expect(longest).toMatch(/\| longest +\| 2 /);
  });
});

describe("the command", () => {
  const run = (args: readonly string[], env: Record<string, string> = {}) =>
    spawnSync(process.execPath, ["--import", "tsx", "scripts/sass/main.ts", ...args], {
      cwd: root,
      encoding: "utf8",
      env: { ...process.env, ...env },
    });
  it("refuses arguments it does not know, and a disassembler that is not there", () => {
    for (const args of [["--chekc"], ["nothing.cu"], ["--check", "--write"], ["--write", "softmax.cu"]]) {
      const { status, stderr } = run(args);
      expect(stderr).toContain(`cannot take ${args.join(" ")}; usage: npm run sass`);
      expect(status).toBe(2);
    }
    const { status, stderr } = run(["--check"], { BIRKHOFF_NVDISASM: "/nowhere/nvdisasm" });
    expect(stderr).toContain("BIRKHOFF_NVDISASM names /nowhere/nvdisasm, which is not there");
    expect(status).toBe(2);
  });
});
