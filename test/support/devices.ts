/** The devices every suite loops over. A GPU that must be there but is not fails the run instead of skipping it. */
import { devices } from "../../lib/index.ts";

const all = devices();

if (process.env.BIRKHOFF_REQUIRE_CUDA === "1" && !all.some((d) => d.name.startsWith("cuda") && d.available)) {
  const reason = all.find((d) => d.name.startsWith("cuda"))?.reason ?? "this build has no CUDA backend";
  throw new Error(`BIRKHOFF_REQUIRE_CUDA=1, but cuda is not available: ${reason}`);
}

/** Names of the devices that can be used here: "cpu", "cuda-emulated" in the build that has it, and "cuda" where there is one. */
export const testDevices: readonly string[] = all.filter((d) => d.available).map((d) => d.name);

/** `emulated` on the executor of CUDA sources, which runs one thread at a time and is slow; `full` everywhere else. */
export function sizeFor<T>(device: string, full: T, emulated: T): T {
  return device === "cuda-emulated" ? emulated : full;
}
