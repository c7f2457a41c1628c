/**
 * Before the tests: the addon whose CUDA kernels run on the CPU (device "cuda-emulated"), built where it is not up to date.
 *
 * BIRKHOFF_ADDON names another addon to test, as on a machine with a GPU. BIRKHOFF_EMULATED=0 leaves the device out.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

export default function setup(): void {
  if (process.env.BIRKHOFF_ADDON || process.env.BIRKHOFF_EMULATED === "0") return;
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const build = spawnSync(
    "npx",
    ["cmake-js", "compile", "--out", "build", "--parallel", "2", "--CDBIRKHOFF_CUDA_EMULATION=ON"],
    { cwd: root, encoding: "utf8" },
  );
  if (build.status !== 0)
    throw new Error(
      `the emulated addon cannot be built (BIRKHOFF_EMULATED=0 tests without it):\n${build.stdout}\n${build.stderr}`,
    );
  process.env.BIRKHOFF_ADDON = `${root}build/emulated/birkhoff.node`;
}
