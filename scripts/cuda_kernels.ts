/** What `npm run ptxas` and `npm run sass` share: the build that knows nvcc's flags, names of kernels, tables. */
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));

/** Runs CMake in the package's folder; ends the process where it fails. */
export function cmake(...args: string[]): void {
  const { status, stdout, stderr } = spawnSync("cmake", args, { cwd: root, encoding: "utf8" });
  if (status === 0) return;
  process.stderr.write(`${stdout}\n${stderr}\n`);
  process.exit(1);
}

/**
 * Configures a build of the CUDA kernels, nothing but which is then compiled.
 *
 * @param architectures as CMake counts them: "90a-real;90-virtual"
 * @returns nvcc's version, or undefined where there is no nvcc
 */
export function configureKernels(build: string, architectures: string): string | undefined {
  cmake(
    ...["-S", ".", "-B", build, "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", "-DBIRKHOFF_UNITY=OFF"],
    `-DBIRKHOFF_CUDA_ARCHITECTURES=${architectures}`,
  );
  if (!/^NVCC:.*(?<!NOTFOUND)$/m.test(readFileSync(`${root}${build}/CMakeCache.txt`, "utf8"))) return undefined;
  const compiler = spawnSync("bash", ["-c", `cat ${build}/CMakeFiles/*/CMakeCUDACompiler.cmake`], {
    cwd: root,
    encoding: "utf8",
  }).stdout;
  return /CMAKE_CUDA_COMPILER_VERSION "([\d.]+)"/.exec(compiler)?.[1] ?? "unknown";
}

/** "void birkhoff::cuda::(anonymous namespace)::merge_kernel<4, true, float>(float const*)" to "merge_kernel<4, true, float>" */
function shortName(demangled: string): string {
  const names = demangled.replaceAll(/birkhoff::|cuda::|\(anonymous namespace\)::/g, "").replace(/^void /, "");
  return names.slice(0, names.includes(">(") ? names.indexOf(">(") + 1 : names.indexOf("("));
}

/** The kernels' names as people read them: "merge_kernel<4, true, float>". */
export function kernelNames(mangled: readonly string[]): string[] {
  if (mangled.length === 0) return [];
  return execFileSync("c++filt", { input: mangled.join("\n"), encoding: "utf8" })
    .trimEnd()
    .split("\n")
    .map(shortName);
}

/** Rows of cells, the first of them the head, as a Markdown table in columns of one width. */
export function markdownTable(cells: readonly (readonly string[])[]): string {
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) => `| ${row.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |\n`;
  const [head, ...body] = cells;
  return [head!, widths.map((width) => "-".repeat(width)), ...body].map(line).join("");
}
