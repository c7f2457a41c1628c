/** The devices every suite loops over. A GPU that must be there but is not fails the run instead of skipping it. */
import { devices } from "../../lib/index.ts";

const all = devices();

if (process.env.BIRKHOFF_REQUIRE_CUDA === "1" && !all.some((d) => d.name.startsWith("cuda") && d.available)) {
  const reason = all.find((d) => d.name.startsWith("cuda"))?.reason ?? "this build has no CUDA backend";
  throw new Error(`BIRKHOFF_REQUIRE_CUDA=1, but cuda is not available: ${reason}`);
}

/**
 * Names of the devices that can be used here: "cpu", and "cuda" where there is one. "cuda-emulated" has not got all kernels yet:
 * BIRKHOFF_TEST_EMULATED=1 adds it; what it has is tested under test/cuda.
 */
export const testDevices: readonly string[] = all
  .filter((d) => d.available && (d.name !== "cuda-emulated" || process.env.BIRKHOFF_TEST_EMULATED === "1"))
  .map((d) => d.name);
