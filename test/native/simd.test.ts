/** Instruction sets: all give the same results within rounding, each can be asked for, and one that is missing is an error. */

import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { native } from "../../lib/native.ts";
import { type Checksums, differences } from "../support/checksums.ts";
import { runProgram } from "../support/program.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

async function checksums(simd: string): Promise<{ simd: string; results: Checksums }> {
  const { code, stdout, stderr } = await runProgram("checksums", { env: { BIRKHOFF_SIMD: simd } });
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout);
}

describe("BIRKHOFF_SIMD", () => {
  test("every op gives the same at each level that this machine has", async () => {
    const refused = await runProgram("checksums", { env: { BIRKHOFF_SIMD: "none" } });
    const levels = /have ([a-z0-9, ]+)/.exec(refused.stderr)?.[1]?.split(", ") ?? [];
    expect(levels).toContain("portable");
    expect(levels).toContain(native.info().simd);
    const portable = await checksums("portable");
    expect(portable.simd).toBe("portable");
    for (const level of levels) {
      if (level === "portable") continue;
      const other = await checksums(level);
      expect(other.simd).toBe(level);
      expect(differences(other.results, portable.results), level).toEqual([]);
    }
  });

  test.each(["AVX2", ""])("%j is refused with a typed error that names the levels", async (simd) => {
    const { code, stderr } = await runProgram("checksums", { env: { BIRKHOFF_SIMD: simd } });
    expect(code).toBe(1);
    expect(stderr).toMatch(`BIRKHOFF_SIMD is "${simd}", this machine and build have `);
    expect(stderr).toMatch(/DeviceError/);
    expect(stderr).toMatch(/code: 'ERR_DEVICE'/);
    expect(stderr).not.toMatch(/Build it from source/);
  });
});

/** The linker keeps one copy of a weak symbol: it might be the AVX-512 one, called where there is no AVX-512. */
const objects = `${root}build/CMakeFiles`;
const kernelFolders = existsSync(objects) ? readdirSync(objects).filter((f) => f.startsWith("kernels_")) : [];
const hasNm = spawnSync("nm", ["--version"]).status === 0;

test.skipIf(!hasNm || kernelFolders.length === 0)("kernel objects define no weak symbols", () => {
  for (const folder of kernelFolders) {
    const files = readdirSync(`${objects}/${folder}`, { recursive: true, encoding: "utf8" }).filter((f) =>
      f.endsWith(".o"),
    );
    const { stdout } = spawnSync("nm", ["-C", "--defined-only", ...files.map((f) => `${objects}/${folder}/${f}`)], {
      encoding: "utf8",
      maxBuffer: 1 << 26,
    });
    expect(stdout.split("\n").filter((line) => / T /.test(line)).length).toBeGreaterThan(15);
    expect(stdout.split("\n").filter((line) => / [WwVvu] /.test(line))).toEqual([]);
  }
});
