/** A pack for a bare machine: what is in it, and that a verification runs from it with nothing else there. */
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { commit } from "../../lib/bench/support/commit.ts";
import { native } from "../../lib/native.ts";
import { closure, namedPackages } from "../../scripts/gpu_pack/closure.ts";
import { findTool } from "../../scripts/gpu_verify/child.ts";
import type { Verification } from "../../scripts/gpu_verify/report.ts";

const root = join(import.meta.dirname, "../..");

describe("the packages", () => {
  test("are those that a source names, with all that they need, wherever Node finds it", () => {
    const names = namedPackages(root, ["lib/addon.ts", "test/native/timing.test.ts", "package.json"]);
    expect(names.sort()).toEqual(["node-gyp-build", "vitest"]);
    const folders = closure(root, names);
    const within = (name: string) => folders.includes(`node_modules/${name}`);
    expect(["node-gyp-build", "vitest", "vite", "@vitest/runner"].filter((name) => !within(name))).toEqual([]);
    // Not in quotes by themselves: that is how a source names what it needs.
    expect(folders.filter((name) => /^node_modules\/(typescript|@biomejs|fast-check)/.test(name))).toEqual([]);
    expect(folders).toEqual([...new Set(folders)]);
  });

  test("that are not installed are named", () => {
    expect(() => closure(root, ["no-such-package"])).toThrow(
      "no-such-package, which the project needs, is not installed",
    );
  });
});

function pack(...args: string[]) {
  const main = join(root, "scripts/gpu_pack/main.ts");
  return spawnSync(process.execPath, ["--no-warnings", "--import", "tsx", main, ...args], { encoding: "utf8" });
}

test.each([["--level", "10"], ["--what"]])("%s: exit code 2", (...args) => {
  expect(pack(...args).status).toBe(2);
});

describe.runIf(native.emulator)("a pack", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "birkhoff-pack-test-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test("runs a verification in an empty folder, with bash, coreutils, tar and xz alone", { timeout: 180_000 }, () => {
    // Node without compression: it would be most of the time of this test.
    const addon = process.env.BIRKHOFF_ADDON!;
    const packed = pack("--addon", addon, "--out", folder, "--level", "0", "--no-node");
    expect(packed.status, packed.stderr).toBe(0);
    const archive = join(folder, readdirSync(folder).find((file) => file.endsWith(".tar.xz"))!);
    expect(readdirSync(folder)).toHaveLength(1); // nothing else is left behind
    const command = packed.stdout.match(/^ +(mkdir .*)$/m)![1]!;

    const bin = join(folder, "bin");
    mkdirSync(bin);
    for (const tool of ["bash", "tar", "xz", "mkdir", "dirname", "realpath"])
      symlinkSync(findTool(tool, [])!, join(bin, tool));
    const there = join(folder, "birkhoff");
    const bare = (script: string) =>
      spawnSync("/bin/bash", ["-c", script], {
        cwd: folder,
        env: { PATH: bin },
        encoding: "utf8",
        stdio: ["ignore", "pipe", "pipe"],
      });
    const [unpack, verify] = [
      command.slice(0, command.lastIndexOf(" && ")),
      command.slice(command.lastIndexOf(" && ") + 4),
    ];
    expect(bare(unpack)).toMatchObject({ status: 0, stderr: "" });
    expect(existsSync(join(there, "node_modules/typescript"))).toBe(false);
    mkdirSync(join(there, "bin"));
    try {
      linkSync(realpathSync(process.execPath), join(there, "bin/node"));
    } catch {
      copyFileSync(process.execPath, join(there, "bin/node"));
    }
    rmSync(archive);

    const results = join(folder, "results");
    const flags = `--device cuda-emulated --tiny --tests test/native/timing.test.ts --results ${results}`;
    const { status, stderr } = bare(`${verify} ${flags} --only "tests,train bfloat16"`);
    expect(status, stderr).toBe(0);
    const file = readdirSync(results).find((name) => name.endsWith(".json"))!;
    const report = JSON.parse(readFileSync(join(results, file), "utf8")) as Verification;
    expect(report).toMatchObject({ complete: true, passed: true, conditions: { commit: commit() } });
    expect(report.stages.map((s) => s.status)).toEqual(["passed", "passed"]);
  });
});
