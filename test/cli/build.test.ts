/** birkhoff build: what it checks, and that a build that fails leaves what was there. Tools are stand-ins on a PATH of their own. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it, test } from "vitest";
import { atLeast } from "../../lib/cli/build_tools.ts";
import { addonOf, localBuild, PackageFolder, packageVersion } from "../support/package_folder.ts";

const folder = new PackageFolder();
for (const name of ["CMakeLists.txt", "dist/include/napi.h"]) folder.write(name, "");
beforeEach(() => folder.clear());
afterAll(() => folder[Symbol.dispose]());

test("atLeast compares numbers, not texts", () => {
  const pairs = [
    ["3.22", "3.22"],
    ["3.22.1", "3.22"],
    ["3.100", "3.22"],
    ["10", "10"],
    ["12.2.0", "10"],
    ["13.0", "12"],
  ];
  expect(pairs.map(([a, b]) => atLeast(a!, b!))).toEqual(pairs.map(() => true));
  const lower = [
    ["3.21.9", "3.22"],
    ["3.3", "3.22"],
    ["9.4.0", "10"],
    ["2.99", "3.0"],
  ];
  expect(lower.map(([a, b]) => atLeast(a!, b!))).toEqual(lower.map(() => false));
});

let sets = 0;
/** A PATH with nothing but these programs; each is the body of a shell script. */
function path(programs: Record<string, string>): string {
  const bin = `../../bin${sets++}`;
  for (const [name, body] of Object.entries(programs)) folder.write(`${bin}/${name}`, `#!/bin/sh\n${body}\n`);
  folder.write(`${bin}/.keep`, "");
  return folder.file(bin);
}

function build(programs: Record<string, string>, args: string[] = [], env: Record<string, string> = {}) {
  const everything = {
    PATH: path(programs),
    CXX: "",
    CUDACXX: "",
    CUDA_HOME: "",
    CUDA_PATH: "",
    BIRKHOFF_CUDA: "OFF",
    ...env,
  };
  return folder.node(folder.file("dist/cli/main.js"), { args: ["build", "--json", ...args], env: everything });
}

const good = {
  cmake: `[ "$1" != --version ] || echo "cmake version 3.25.1"`,
  "g++": `case "$1" in --version) echo "g++ (Debian) 12.2.0";; -dump*) echo 12.2.0;; *) exit 0;; esac`,
  make: "echo GNU Make 4.3",
};

describe("the checks name everything that is missing, with versions and how to get it", () => {
  it("on a machine with nothing", () => {
    const { status, stdout, stderr } = build({}, ["--cuda", "on"]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/cmake +want 3\.22 or newer; found none/);
    expect(stderr).toMatch(/C\+\+20 compiler +want g\+\+ 10 or clang\+\+ 13, or newer; found none/);
    expect(stderr).toMatch(/make or ninja +want any version; found neither/);
    for (const how of ["apt-get install cmake g++ make", "dnf install cmake gcc-c++ make"])
      expect(stderr).toContain(how);
    const { built, missing } = JSON.parse(stdout);
    expect(built).toBe(false);
    const names = missing.map((m: { name: string }) => m.name);
    expect(names.slice(0, 3)).toEqual(["cmake", "a C++20 compiler", "make or ninja"]);
    expect(Math.max(...stderr.split("\n").map((line) => line.length))).toBeLessThanOrEqual(80);
  });

  it.each([
    ["an old CMake", { ...good, cmake: "echo cmake version 3.18.4" }, /cmake +want 3\.22 or newer; found 3\.18\.4/],
    [
      "an old g++",
      { ...good, "g++": `case "$1" in --version) echo "g++ (Debian) 9.4.0";; *) echo 9.4.0;; esac` },
      /C\+\+20 compiler +want .*; found g\+\+ 9\.4\.0 at .*\/g\+\+/,
    ],
    [
      "an old clang",
      { cmake: good.cmake, make: good.make, "clang++": "echo Debian clang version 11.0.1-2" },
      /found clang\+\+ 11\.0\.1 at/,
    ],
    [
      "a compiler that cannot compile C++20",
      { ...good, "g++": `case "$1" in --version) echo "g++ (Debian) 12.2.0";; -dump*) echo 12.2.0;; *) exit 1;; esac` },
      /found g\+\+ 12\.2\.0 at .* \(which cannot compile C\+\+20\)/,
    ],
  ])("%s", (_, programs, message) => {
    const { status, stderr } = build(programs);
    expect(status).toBe(1);
    expect(stderr).toMatch(message);
    expect(stderr.match(/ want /g)).toHaveLength(1);
  });

  it("an old nvcc: said with --cuda auto, missing with --cuda on", () => {
    const env = { CUDACXX: join(path({ nvcc: "echo release 11.8, V11.8.89" }), "nvcc") };
    const on = build(good, ["--cuda", "on"], env);
    expect(on.stderr).toMatch(/nvcc +want 12 or newer; found 11\.8 at/);
    expect(build(good, ["--cuda", "auto"], env).stderr).toMatch(
      /CUDA kernels: none \(nvcc is 11\.8 at .*, want 12 or newer\)/,
    );
  });
});

const folders = () => readdirSync(folder.file("build")).sort();

describe("building", () => {
  // Configures; building puts the file where CMake was told to.
  const cmake = (file: string) => `${good.cmake}
    [ "$1" = --build ] && /bin/cp ${file} "$2/birkhoff.node"
    [ "$1" != -S ] || echo "-- GEMM: built-in"`;

  it("puts the new file in place, and says what it is", () => {
    folder.addon(localBuild, "0.0.9", 60);
    const made = folder.write("../../made.node", addonOf(packageVersion));
    const { status, stdout, stderr } = build({ ...good, cmake: cmake(made) });
    expect({ status, stderr }).toMatchObject({ status: 0 });
    expect(stderr).toContain("GEMM: built-in");
    expect(JSON.parse(stdout)).toMatchObject({ built: true, version: packageVersion, noCuda: "not wanted" });
    expect(folders()).toEqual(["Release"]);
    const { addon } = JSON.parse(folder.cli("doctor", "--json").stdout);
    expect(addon).toEqual({ loaded: true, file: folder.file(localBuild), from: "local build" });
  });

  it.each([
    [
      "the compiler fails",
      `${good.cmake}\n[ "$1" != --build ] || { echo "x.cpp:1: error: no"; exit 2; }`,
      /x\.cpp:1: error: no/,
    ],
    ["the new file does not load", cmake("/etc/hostname"), /the new file says version undefined/],
  ])("leaves what was there when %s", (_, failing, message) => {
    folder.write(localBuild, "what was there");
    const { status, stdout, stderr } = build({ ...good, cmake: failing });
    expect(status).toBe(1);
    expect(stderr).toMatch(message);
    expect(stderr).toContain("what was there before is unchanged");
    expect(JSON.parse(stdout)).toMatchObject({ built: false });
    expect(readFileSync(folder.file(localBuild), "utf8")).toBe("what was there");
    expect(folders()).toEqual(["Release"]);
  });

  it("refuses wrong flags with exit code 2, and other systems with what works there", () => {
    expect(build(good, ["--cuda", "maybe"])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("auto, on, off"),
    });
    expect(build(good, ["--jobs", "0"]).status).toBe(2);
    expect(existsSync(folder.file("build"))).toBe(false);
    const elsewhere = `Object.defineProperty(process, "platform", { value: "win32" }); process.argv.splice(1, 0, "birkhoff", "build");
      await import(${JSON.stringify(folder.file("dist/cli/main.js"))});`;
    const { status, stderr } = folder.node(elsewhere);
    expect(status).toBe(1);
    expect(stderr).toMatch(/builds on Linux alone .*types and import work here.*WSL2/);
  });
});
