/** What `birkhoff build` needs of the machine, all of it looked for before anything is built. */
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { needs } from "../addon.ts";

export interface Missing {
  name: string;
  wanted: string;
  /** What there is instead. */
  found: string;
}

export interface Tool {
  path: string;
  version: string;
}

export interface Tools {
  cmake?: Tool;
  compiler?: Tool & { kind: "g++" | "clang++" };
  /** CMake's name for what runs the compiler. */
  generator?: Tool & { name: "Ninja" | "Unix Makefiles" };
  nvcc?: Tool;
  /** Why there will be no CUDA kernels; undefined where there will. */
  noCuda?: string;
  missing: Missing[];
}

export type Cuda = "auto" | "on" | "off";

/** How to get what is missing. */
export const remedies = `Debian 12, Ubuntu 22.04: apt-get install cmake g++ make
Fedora:                  dnf install cmake gcc-c++ make
Alpine:                  apk add cmake g++ make linux-headers
A newer CMake:           pip install cmake, or https://cmake.org/download
nvcc:                    https://developer.nvidia.com/cuda-downloads`;

/** @param root  the package's folder, which is built in */
export function findTools(root: string, cuda: Cuda): Tools {
  const tools: Tools = { missing: [] };
  checkFolder(root, tools);
  checkCmake(tools);
  checkCompiler(tools);
  const ninja = which("ninja") ?? which("ninja-build");
  const make = which("make") ?? which("gmake");
  if (ninja) tools.generator = { name: "Ninja", path: ninja, version: versionOf(ninja) ?? "?" };
  else if (make) tools.generator = { name: "Unix Makefiles", path: make, version: versionOf(make) ?? "?" };
  else tools.missing.push({ name: "make or ninja", wanted: "any version", found: "neither" });
  checkCuda(tools, cuda);
  return tools;
}

function checkFolder(root: string, { missing }: Tools): void {
  const headers = ["dist/include", "node_modules/node-addon-api"].some((h) => existsSync(join(root, h, "napi.h")));
  if (!headers || !existsSync(join(root, "CMakeLists.txt")))
    missing.push({ name: "the sources", wanted: `those that the package ships in ${root}`, found: "not all of them" });
  try {
    mkdirSync(join(root, "build"), { recursive: true });
    accessSync(join(root, "build"), constants.W_OK);
  } catch (error) {
    const wanted = `one that can be written to: ${join(root, "build")}`;
    missing.push({ name: "the folder", wanted, found: (error as NodeJS.ErrnoException).code ?? String(error) });
  }
}

function checkCmake(tools: Tools): void {
  const path = which("cmake");
  const version = path && versionOf(path);
  if (path && version && atLeast(version, needs.cmake)) tools.cmake = { path, version };
  else
    tools.missing.push({ name: "cmake", wanted: `${needs.cmake} or newer`, found: path ? (version ?? path) : "none" });
}

// Concepts and a header of C++20: a compiler may know the flag and lack the library.
const program = `#include <span>
template <typename T> requires(sizeof(T) > 1) int size(std::span<T> s) { return int(s.size()); }
int check(int* p) { return size(std::span<int>(p, 1)); }
`;

/** CXX, else the first that will do of those that CMake would look for. */
function checkCompiler(tools: Tools): void {
  const names = process.env.CXX ? [process.env.CXX] : ["c++", "g++", "clang++"];
  const found: string[] = [];
  for (const name of names) {
    const path = which(name);
    if (!path) continue;
    const kind = /clang/.test(run(path, ["--version"]).output) ? "clang++" : "g++";
    const version =
      (kind === "g++" ? firstNumber(run(path, ["-dumpfullversion", "-dumpversion"])) : versionOf(path)) ?? "?";
    const least = kind === "g++" ? needs.gcc : needs.clang;
    const why = !atLeast(version, String(least)) ? "" : compiles(path) ? undefined : " (which cannot compile C++20)";
    if (why === undefined) {
      tools.compiler = { path, version, kind };
      return;
    }
    found.push(`${kind} ${version} at ${path}${why}`);
  }
  tools.missing.push({
    name: "a C++20 compiler",
    wanted: `g++ ${needs.gcc} or clang++ ${needs.clang}, or newer`,
    found: found.length ? [...new Set(found)].join(", ") : `none${process.env.CXX ? ` (CXX=${process.env.CXX})` : ""}`,
  });
}

function compiles(path: string): boolean {
  const folder = mkdtempSync(join(tmpdir(), "birkhoff-build-"));
  try {
    const flags = ["-std=c++20", "-shared", "-fPIC", "-x", "c++", "-", "-o", join(folder, "check.so")];
    return run(path, flags, program).status === 0;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function checkCuda(tools: Tools, cuda: Cuda): void {
  if (cuda === "off") {
    tools.noCuda = "not wanted";
    return;
  }
  const homes = [process.env.CUDA_HOME, process.env.CUDA_PATH].flatMap((home) =>
    home ? [join(home, "bin/nvcc")] : [],
  );
  const places = [process.env.CUDACXX, ...homes, "nvcc", "/usr/local/cuda/bin/nvcc"];
  const path = places.map((place) => (place ? which(place) : undefined)).find(Boolean);
  const version = path && /release (\d+\.\d+)/.exec(run(path, ["--version"]).output)?.[1];
  if (path && version && atLeast(version, String(needs.cuda))) tools.nvcc = { path, version };
  else {
    const found = path ? `${version ?? "an unknown version"} at ${path}` : "none";
    tools.noCuda = path ? `nvcc is ${found}, want ${needs.cuda} or newer` : "no nvcc found";
    if (cuda === "on") tools.missing.push({ name: "nvcc", wanted: `${needs.cuda} or newer`, found });
  }
}

/** The path of a program, by name on PATH or as it is. */
function which(name: string): string | undefined {
  const candidates = name.includes("/")
    ? [name]
    : (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder || ".", name));
  return candidates.find((file) => {
    try {
      accessSync(file, constants.X_OK);
      return statSync(file).isFile();
    } catch {
      return false;
    }
  });
}

function run(path: string, args: readonly string[], input = ""): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(path, args, {
    input,
    encoding: "utf8",
    timeout: 60_000,
    env: { ...process.env, LC_ALL: "C" },
  });
  return { status, output: `${stdout ?? ""}${stderr ?? ""}` };
}

const firstNumber = ({ output }: { output: string }) => /\d+(?:\.\d+)+|^\d+$/m.exec(output)?.[0];
const versionOf = (path: string) => firstNumber(run(path, ["--version"]));

/** Whether a version is at least another; parts that are missing count as 0. */
export function atLeast(version: string, wanted: string): boolean {
  const [a, b] = [version, wanted].map((text) => text.split(".").map((part) => Number.parseInt(part, 10)));
  for (let i = 0; i < b!.length; i++) if ((a![i] ?? 0) !== b![i]) return (a![i] ?? 0) > b![i]!;
  return true;
}
