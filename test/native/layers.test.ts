/** Borders of the native code that the compiler does not see. */
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const native = readdirSync(`${root}native`, { recursive: true, encoding: "utf8" })
  .filter((file) => /\.(h|cpp|cu|cuh)$/.test(file))
  .map((file) => ({ file, text: readFileSync(`${root}native/${file}`, "utf8") }));

const filesWith = (pattern: RegExp) => native.filter(({ text }) => pattern.test(text)).map(({ file }) => file);
const outside = (folder: string, files: string[]) => files.filter((file) => !file.startsWith(`${folder}/`));

test("the native sources were found", () => expect(native.length).toBeGreaterThan(30));

test("N-API stays in bindings", () => expect(outside("bindings", filesWith(/napi/i))).toEqual([]));

test("CUDA types stay in cuda", () =>
  expect(
    outside("cuda", filesWith(/\bcuda[A-Z]\w*|\bcu(?:blas|dnn)\w*|cuda_runtime|__nv_bfloat16|__half\b|\bdim3\b/)),
  ).toEqual([]));

test("no compiler option ties the build to this machine", () => {
  const build = ["CMakeLists.txt", "package.json"].map((file) => readFileSync(root + file, "utf8")).join("\n");
  expect(build).not.toMatch(/-m(?:arch|cpu)=native|-mtune=native/);
  expect(build).not.toMatch(/-ffast-math|-Ofast/);
  expect(filesWith(/#pragma GCC (?:target|optimize)|__attribute__\(\(target/)).toEqual([]);
});

test("nothing leaves the process from native code", () =>
  expect(filesWith(/\b(?:std::)?(?:abort|exit|_Exit|quick_exit|terminate)\s*\(/)).toEqual([]));
