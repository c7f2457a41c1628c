import { configDefaults, defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Files that take longest, first: a long one that comes last would leave the other worker idle. */
const longest = [
  /\/cuda\/hyper_connections/,
  /\/scripts\/gpu_verify/,
  /\/train\/fit\./,
  /\/cuda-emu\/executor\./,
  /\/ops\/(seam|attention|matmul|connect|mhc_)/,
  /\/cuda\//,
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => longest.findIndex((name) => name.test(moduleId)) + 1 || 99;
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Their sources include the CUDA toolkit's headers, which whoever says so may not have.
    exclude: [...configDefaults.exclude, ...(process.env.BIRKHOFF_EMULATED === "0" ? ["test/cuda-emu/**"] : [])],
    globalSetup: ["test/support/compiled.ts", "test/support/emulated_addon.ts"],
    setupFiles: ["test/support/default_device.ts"],
    pool: "forks",
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    testTimeout: 60_000,
  },
});
