/** CMake on what the package ships, without node_modules: headers are found, and the environment's word holds. */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "birkhoff-configure-"));
afterAll(() => rmSync(folder, { recursive: true }));

function configure(env: Record<string, string>, ...flags: string[]): string {
  const options = { cwd: folder, encoding: "utf8", env: { ...process.env, ...env } } as const;
  const { status, stdout, stderr } = spawnSync("cmake", ["-S", ".", "-B", "build", ...flags], options);
  expect({ status, stderr }).toMatchObject({ status: 0 });
  return stdout;
}

test("the shipped files configure; BIRKHOFF_* of the environment go before the cache, for one run", () => {
  if (!existsSync(join(root, "dist/include"))) throw new Error("dist/include is missing: npm run build:types");
  for (const name of ["CMakeLists.txt", "cmake", "native", "dist/include", "package.json"])
    cpSync(join(root, name), join(folder, name), { recursive: true });
  const cached = configure({}, "-DBIRKHOFF_LEVELS=portable", "-DBIRKHOFF_CUDA=OFF", "-DNVCC=/nonexistent/nvcc");
  expect(cached).toMatch(/CPU kernels: portable$/m);
  const other = configure({ BIRKHOFF_LEVELS: "portable,avx2", BIRKHOFF_CUDA: "OFF" }, "-DBIRKHOFF_CUDA=ON");
  expect(other).toMatch(/^-- BIRKHOFF_CUDA=OFF \(environment\)$/m);
  expect(other).toMatch(/CPU kernels: portable, avx2$/m);
  // nvcc is in the cache, as after a build with CUDA; it would fail here.
  expect(other).toMatch(/^-- CUDA: none/m);
  expect(configure({ BIRKHOFF_CUDA: "OFF" })).toMatch(/CPU kernels: portable$/m);
});
