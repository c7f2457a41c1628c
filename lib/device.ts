/** Devices, threads and memory. */
import { ArgumentTypeError, DeviceError } from "./errors.ts";
import { native } from "./native.ts";
import { checkInteger, show } from "./validate.ts";

export interface DeviceInfo {
  name: string;
  available: boolean;
  description: string;
  /** Why it is not available. */
  reason?: string;
}

/**
 * All devices this build knows, available or not, each with the reason when it is not.
 *
 * The first call in a process looks for GPUs, which starts their driver (tenths of a second to seconds); so does the first use of
 * "auto" or of any other device than "cpu". Until then nothing does: a program that chooses "cpu" never pays for it.
 */
export function devices(): DeviceInfo[] {
  return native.devices();
}

let chosen: string | undefined;

function resolve(fn: string, device: unknown): string {
  if (typeof device !== "string") throw new ArgumentTypeError(`${fn}: device is ${show(device)}, want a string`);
  // Always there; looking for others starts the GPUs' driver.
  if (device === "cpu") return device;
  const all = native.devices();
  // The executor of the tests is a device only when it is asked for.
  if (device === "auto") return all.find((d) => d.available && d.name === "cuda")?.name ?? "cpu";
  const name = device === "cuda:0" ? "cuda" : device;
  const found = all.find((d) => d.name === name);
  if (found?.available) return found.name;
  if (found) throw new DeviceError(`${fn}: ${device} is not available: ${found.reason}`);
  const known = all.map((d) => (d.available ? d.name : `${d.name} (not available: ${d.reason})`)).join(", ");
  throw new DeviceError(`${fn}: device is ${show(device)}, want "auto" or one of ${known}`);
}

/**
 * Chooses the device of new tensors: "cpu", "cuda", "cuda:1" or "auto" (the default). Only "auto" falls back.
 *
 * @returns the device chosen
 * @throws {DeviceError} the device cannot be had; the message says why
 */
export function setDevice(device: string): string {
  chosen = resolve("setDevice", device);
  return chosen;
}

/** @internal The named device checked, or the current one. */
export function currentDevice(device?: string): string {
  if (device !== undefined) return device === chosen ? device : resolve("device", device);
  chosen ??= resolve("setDevice", "auto");
  return chosen;
}

/** Threads the CPU backend computes with; default all cores. Results do not depend on it. @param count integer 1 … 256 */
export function setThreads(count: number): void {
  native.setThreads(checkInteger("setThreads", "count", count, 1, 256));
}

/**
 * Live tensors, their bytes, the highest bytes since the start or `resetPeakMemory`, and bytes held for reuse. Beside these a GPU
 * keeps up to 64 MiB of its memory for reads, and 64 MiB of pinned host memory for copies.
 */
export function memory(): { tensors: number; bytes: number; peakBytes: number; reservedBytes: number } {
  return native.memory();
}

export function resetPeakMemory(): void {
  native.resetPeakMemory();
}

/** Caps the bytes of live tensors on each device; beyond it ops throw `OutOfMemoryError`. @param bytes integer ≥ 0, or Infinity for no cap */
export function setMemoryBudget(bytes: number): void {
  native.setMemoryBudget(bytes === Infinity ? -1 : checkInteger("setMemoryBudget", "bytes", bytes, 0));
}

/** Resolves once everything queued so far is done; rejects with the first error of queued work. @param device default the current */
export function synchronize(device?: string): Promise<void> {
  return native.synchronize(currentDevice(device));
}

/** What the addon found on this machine: SIMD level, GEMM libraries of CPU and GPU, threads in use, cores. */
export function systemInfo(): { simd: string; gemm: string; gpuGemm: string; threads: number; cores: number } {
  return native.info();
}
