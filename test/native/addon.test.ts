/** The addon as a file: its size as it is shipped, what it needs of the machine, and how long loading it takes. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const addon = fileURLToPath(new URL("../../build/Release/birkhoff.node", import.meta.url));
const isBuilt = existsSync(addon);

describe.skipIf(!isBuilt)("build/Release/birkhoff.node (skipped where there is only another addon)", () => {
  it("has at most 8 MB stripped", () => {
    const folder = mkdtempSync(join(tmpdir(), "birkhoff-addon-"));
    const stripped = join(folder, "birkhoff.node");
    execFileSync("strip", ["-o", stripped, addon]);
    const { size } = statSync(stripped);
    rmSync(folder, { recursive: true });
    console.log(`birkhoff.node, stripped: ${size} bytes`);
    expect(size).toBeLessThanOrEqual(8e6);
  });

  it("loads in under 20 ms", () => {
    // Around the load alone, the first in its process. The fastest counts: what the others take longer is other processes' work.
    const program = `const from = process.hrtime.bigint();
      require(${JSON.stringify(addon)});
      console.log(Number(process.hrtime.bigint() - from) / 1e6);`;
    const times = Array.from({ length: 11 }, () =>
      Number(execFileSync(process.execPath, ["-e", program], { encoding: "utf8" })),
    ).sort((a, b) => a - b);
    console.log(
      `birkhoff.node loads in ${times[5]!.toFixed(1)} ms (${times[0]!.toFixed(1)} … ${times[10]!.toFixed(1)})`,
    );
    expect(times[0]).toBeLessThan(20);
  });

  it("needs no library of CUDA or OpenMP, and no glibc above 2.34", () => {
    const read = (...flags: string[]) => spawnSync("readelf", [...flags, addon], { encoding: "utf8" }).stdout;
    const needed = [...read("-d").matchAll(/NEEDED.*\[(.*)\]/g)].map((m) => m[1]!);
    expect(needed).toContain("libc.so.6");
    expect(needed.filter((name) => /cuda|cublas|nvidia|gomp/.test(name))).toEqual([]);
    const versions = [...read("-V").matchAll(/GLIBC_2\.(\d+)/g)].map((m) => Number(m[1]));
    expect(Math.max(...versions)).toBeLessThanOrEqual(34);
  });
});
