import { configDefaults, defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Their sources include the CUDA toolkit's headers, which whoever says so may not have.
    exclude: [...configDefaults.exclude, ...(process.env.BIRKHOFF_EMULATED === "0" ? ["test/cuda-emu/**"] : [])],
    globalSetup: ["test/support/compiled.ts", "test/support/emulated_addon.ts"],
    setupFiles: ["test/support/default_device.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 60_000,
  },
});
