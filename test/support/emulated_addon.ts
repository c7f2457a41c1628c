/**
 * Before the tests: the addon whose CUDA kernels run on the CPU (device "cuda-emulated"), built where it is not up to date.
 *
 * BIRKHOFF_ADDON names another addon to test, as on a machine with a GPU. BIRKHOFF_EMULATED=0 leaves the device out.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

export default function setup(): void {
  if (process.env.BIRKHOFF_ADDON || process.env.BIRKHOFF_EMULATED === "0") return;
  buildEmulated("birkhoff_emulated");
  process.env.BIRKHOFF_ADDON = `${root}build/emulated/birkhoff.node`;
}

/** Brings a target of the build with the executor up to date. */
export function buildEmulated(target: string): void {
  const run = (command: string, args: string[]) => {
    const done = spawnSync(command, args, { cwd: root, encoding: "utf8" });
    if (done.status !== 0)
      throw new Error(
        `${target} cannot be built (BIRKHOFF_EMULATED=0 tests without it):\n${done.error ?? ""}${done.stdout}\n${done.stderr}`,
      );
  };
  if (!existsSync(`${root}build/CMakeCache.txt`)) run("npm", ["run", "build:native"]);
  run("cmake", ["-S", ".", "-B", "build", "-DBIRKHOFF_CUDA_EMULATION=ON"]);
  run("cmake", ["--build", "build", "--parallel", "2", "--target", target]);
}
