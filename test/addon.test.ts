/** Which addon is loaded, when, and what is said where none can be: in folders like an installed package's. */
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeEach, describe, expect, it, test } from "vitest";
import { findAddon, libc, versionIn } from "../lib/addon.ts";
import { AddonError } from "../lib/index.ts";
import { localBuild, PackageFolder, packageVersion, prebuild } from "./support/package_folder.ts";

const folder = new PackageFolder();
beforeEach(() => folder.clear());
afterAll(() => folder[Symbol.dispose]());

const textOf = (version: string) => `…birkhoff-addon-version=${version}\0…`;
const errorOf = (run: () => unknown): AddonError => {
  try {
    run();
  } catch (error) {
    if (error instanceof AddonError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
};

describe("findAddon", () => {
  it("takes the prebuild where there is nothing else", () => {
    const file = folder.write(prebuild, "");
    expect(findAddon(folder.path)).toEqual({ file, from: "prebuild" });
  });

  it("takes a local build of this version, and one that is newer than the prebuild", () => {
    const file = folder.write(localBuild, textOf(packageVersion));
    expect(findAddon(folder.path)).toEqual({ file, from: "local build" });
    folder.write(prebuild, "", 60);
    expect(findAddon(folder.path)).toEqual({ file, from: "local build" });
  });

  it.each([
    ["older", textOf(packageVersion), 60, "it is older than the prebuild"],
    ["of another version", textOf("0.0.9"), 0, `it is of version 0.0.9, this package is ${packageVersion}`],
    ["of a longer version", textOf(`${packageVersion}-rc.1`), 0, `it is of version ${packageVersion}-rc.1`],
    ["of no version", "", 0, `it holds no version, this package is ${packageVersion}`],
  ])("leaves a local build that is %s for the prebuild, and warns with both names", (_, content, age, why) => {
    const file = folder.write(prebuild, "", 30);
    const stale = folder.write(localBuild, content, age);
    const found = findAddon(folder.path);
    expect(found).toMatchObject({ file, from: "prebuild" });
    for (const part of [stale, file, why, "npx birkhoff build", "delete it"]) expect(found.warning).toContain(part);
  });

  it("refuses a stale local build where there is no prebuild", () => {
    const file = folder.write(localBuild, textOf("0.0.9"));
    folder.write("prebuilds/linux-mips/birkhoff.glibc.node", "");
    const error = errorOf(() => findAddon(folder.path));
    expect(error).toMatchObject({ code: "ERR_ADDON", file, advice: expect.stringContaining("npx birkhoff build") });
    expect(error.message).toContain(`${file} is stale: it is of version 0.0.9`);
  });

  it("says where it looked, on what, and what to do", () => {
    const error = errorOf(() => findAddon(folder.path));
    const platform = `${process.platform}-${process.arch}`;
    expect(error).toMatchObject({ name: "AddonError", platform, libc: libc(), file: undefined });
    const looked = [join(folder.path, "prebuilds", platform), join(folder.path, "build/Release")];
    for (const part of [...looked, platform, libc()!, "npx birkhoff build", "CMake 3.22", "g++ 10"])
      expect(error.message).toContain(part);
  });

  it("knows the name of the prebuild for 64-bit ARM", () => {
    const file = folder.write("prebuilds/linux-arm64/birkhoff.armv8.glibc.node", "");
    const program = `console.log(require("node-gyp-build").path(${JSON.stringify(folder.path)}))`;
    const { stdout } = folder.node(program, { type: "commonjs", env: { npm_config_arch: "arm64" } });
    expect(stdout.trim()).toBe(file);
  });
});

test("versionIn reads up to the zero byte, wherever in the file", () => {
  expect(versionIn(folder.write("a", textOf("1.2.3-rc.1+b")))).toBe("1.2.3-rc.1+b");
  for (const before of [0, 1, 2 ** 18 - 200, 2 ** 18 - 128, 2 ** 18 - 25, 2 ** 18 - 3, 2 ** 18, 2 ** 19 - 140, 2 ** 20])
    for (const after of [0, 5, 300])
      expect(versionIn(folder.write("a", "x".repeat(before) + textOf("1.2.3") + "y".repeat(after)))).toBe("1.2.3");
  expect(versionIn(folder.write("a", "birkhoff-addon-version"))).toBeUndefined();
  expect(versionIn(folder.write("a", "x".repeat(2 ** 19)))).toBeUndefined();
});

const report = `const say = (run) => { try { return run(); } catch (e) { return { name: e.name, code: e.code, message: e.message }; } };
  const tries = (b) => console.log(JSON.stringify([say(() => b.memory()), say(() => b.Tensor.ones([2]).dataSync()), say(() => b.systemInfo())]));`;
const viaImport = `${report} tries(await import("birkhoff"));`;
const viaRequire = `${report} tries(require("birkhoff"));`;
interface Said {
  name?: string;
  code?: string;
  message?: string;
}
const said = ({ stdout, stderr }: { stdout: string; stderr: string }): Said[] => {
  expect(stdout, stderr).toMatch(/^\[/);
  return JSON.parse(stdout);
};

describe("without an addon", () => {
  it.each([
    ["import", viaImport, "module"],
    ["require()", viaRequire, "commonjs"],
  ])("%s works, and every call that needs it throws the same typed error", (_, program, type) => {
    const errors = said(folder.node(program, { type }));
    expect(errors.map((e) => `${e.name} ${e.code}`)).toEqual(Array(3).fill("AddonError ERR_ADDON"));
    expect(new Set(errors.map((e) => e.message)).size).toBe(1);
    expect(errors[0]!.message).toContain("npx birkhoff build");
  });

  it.each([
    ["darwin", "arm64", /no native addon for darwin-arm64: .*Types and import work here.*Linux.*container/],
    ["win32", "x64", /no native addon for win32-x64: .*Types and import work here.*WSL2/],
  ])("on %s it says what works there and where to run", (platform, arch, message) => {
    const elsewhere = `for (const [k, value] of [["platform", "${platform}"], ["arch", "${arch}"]]) Object.defineProperty(process, k, { value });`;
    const errors = said(folder.node(`${elsewhere} ${viaImport}`));
    expect(errors[0]!.code).toBe("ERR_ADDON");
    expect(errors[0]!.message).toMatch(message);
    expect(errors[0]!.message).not.toContain("birkhoff build");
  });

  it("doctor says the same and exits 1", () => {
    const plain = folder.cli("doctor");
    expect(plain.status).toBe(1);
    expect(plain.stdout).toMatch(/^addon +not loaded: there is no prebuilt addon for .*prebuilds.*build\/Release/m);
    expect(plain.stdout).toMatch(/^advice +Build it from source: npx birkhoff build/m);
    const { addon, libc: found } = JSON.parse(folder.cli("doctor", "--json").stdout);
    expect(found).toBe(libc());
    expect(addon).toEqual({ loaded: false, reason: expect.any(String), advice: expect.any(String) });
  });
});

it("a file that the loader refuses: its name, the loader's reason, and advice", () => {
  const file = folder.write(prebuild, "not an ELF file");
  const [error] = said(folder.node(viaImport));
  expect(error!.message).toMatch(
    /birkhoff\..*glibc\.node \(prebuild\) cannot be loaded: .*(file too short|invalid ELF)/,
  );
  expect(error!.message).toContain(file);
  expect(error!.message).toContain("npx birkhoff build");
  const other = folder.write("other.node", "x");
  expect(said(folder.node(viaImport, { env: { BIRKHOFF_ADDON: other } }))[0]!.message).toMatch(/Unset BIRKHOFF_ADDON/);
});

it("says how to run node where it was told to load no addons", () => {
  folder.addon(prebuild, undefined);
  const [error] = said(folder.node(viaImport, { env: { NODE_OPTIONS: "--no-addons" } }));
  expect(error).toMatchObject({ code: "ERR_ADDON", message: expect.stringContaining("Run node without --no-addons") });
});

it("loads the prebuild in place of a stale local build, says so once, and doctor shows the file", () => {
  const stale = folder.addon(localBuild, "0.0.9");
  const file = folder.addon(prebuild, undefined);
  const { stdout, stderr } = folder.node(viaImport);
  expect(said({ stdout, stderr })[1]).toEqual({ 0: 1, 1: 1 });
  expect(stderr.match(/BIRKHOFF_STALE_BUILD/g)).toHaveLength(1);
  for (const name of [stale, file]) expect(stderr).toContain(name);
  expect(JSON.parse(folder.cli("doctor", "--json").stdout).addon).toEqual({ loaded: true, file, from: "prebuild" });
  expect(folder.cli("doctor").stdout).toContain(`${file} (prebuild)`);
});

it("the first use takes under 20 ms of the processor with both files there", () => {
  folder.addon(localBuild, packageVersion);
  folder.addon(prebuild, undefined, 60);
  const program = `const { setMemoryBudget } = await import("birkhoff");
    const from = process.cpuUsage(); setMemoryBudget(Infinity);
    const { user, system } = process.cpuUsage(from); console.log((user + system) / 1000);`;
  const times = Array.from({ length: 7 }, () => Number(folder.node(program).stdout));
  expect(Math.min(...times)).toBeLessThan(20);
});

describe("bundled by esbuild", () => {
  const bundle = async (format: "cjs" | "esm", external: string[]) => {
    const outfile = folder.write(`../../out/bundle.${format === "cjs" ? "cjs" : "mjs"}`, "");
    const program = `import * as b from "birkhoff"; ${report} tries(b);`;
    const stdin = { contents: program, resolveDir: folder.around };
    await build({ stdin, outfile, format, external, bundle: true, platform: "node", logLevel: "silent" });
    return said(folder.node(`await import(${JSON.stringify(outfile)})`));
  };

  it.each(["cjs", "esm"] as const)("as %s it imports; the first call says that it must be external", async (format) => {
    folder.addon(prebuild, undefined);
    const errors = await bundle(format, []);
    expect(errors.map((e) => e.code)).toEqual(Array(3).fill("ERR_ADDON"));
    expect(errors[0]!.message).toMatch(/seems to be bundled.*--external:birkhoff.*externals/);
  });

  it("external, it works", async () => {
    folder.addon(prebuild, undefined);
    expect((await bundle("esm", ["birkhoff"]))[1]).toEqual({ 0: 1, 1: 1 });
  });
});
