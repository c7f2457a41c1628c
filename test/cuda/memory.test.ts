// What a GPU's reads and writes keep beside the tensors, in bytes of the device and of pinned memory: as the executor counts them.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { Graph } from "../../lib/graph.ts";
import { ops, synchronize, Tensor, train } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { runProgram } from "../support/program.ts";

const device = "cuda-emulated";
const emulator = native.emulator!;
const mebibyte = 2 ** 20;
/** What is kept of either kind at most, native/cuda/context.cpp. */
const kept = 64 * mebibyte;

const upload = (bytes: number) => Tensor.from(new Float32Array(bytes / 4), undefined, { device });

describe.runIf(emulator)("on the executor", () => {
  beforeAll(() => synchronize(device)); // opens it
  afterEach(() => {
    vi.restoreAllMocks();
    emulator.configure(0, 1, false, true);
  });

  test("a model that was saved is not held a second time, nor while it is being saved", async () => {
    const folder = await mkdtemp(join(tmpdir(), "birkhoff-memory-"));
    // Each size needs a larger buffer than those before.
    const tensors = [5, 10, 20, 40, 72].map((size) => upload(size * mebibyte));
    let reading = 0;
    let most = 0;
    const data = Tensor.prototype.data;
    vi.spyOn(Tensor.prototype, "data").mockImplementation(async function (this: Tensor) {
      reading += 4 * this.size;
      most = Math.max(most, reading);
      const values = await data.call(this);
      reading -= 4 * this.size;
      return values;
    });
    await synchronize(device);
    const before = emulator.memory();
    await train.writeSafetensors(join(folder, "model.safetensors"), new Map(tensors.map((t, i) => [`${i}`, t])));
    const after = emulator.memory();
    for (const t of tensors) t.dispose();
    await rm(folder, { recursive: true });
    expect(after.allocator).toBe(before.allocator);
    expect(after.reads).toBeLessThanOrEqual(kept);
    expect(after.pinned).toBeLessThanOrEqual(kept);
    expect(most).toBe(72 * mebibyte); // the largest alone, or several up to what is kept
  });

  test("reads that nobody spread out keep no more", async () => {
    emulator.configure(2, 1, true, true);
    const tensors = Array.from({ length: 12 }, () => upload(12 * mebibyte));
    await Promise.all(tensors.map((t) => t.data()));
    for (const t of tensors) t.dispose();
    await synchronize(device);
    expect(emulator.memory().reads).toBeLessThanOrEqual(kept);
    expect(emulator.memory().pinned).toBeLessThanOrEqual(kept);
  });

  test("writes wait for older ones instead of pinning more", async () => {
    emulator.configure(0, 1, true, true);
    const tensors = Array.from({ length: 12 }, () => upload(12 * mebibyte));
    // Once this has come, the copies above have their buffers.
    native.markTime(device, "queued");
    native.takeMarks(device);
    expect(emulator.memory().pinned).toBeLessThanOrEqual(kept);
    for (const t of tensors) t.dispose();
    await synchronize(device);
  });

  test("a read finds what the last one kept", async () => {
    const x = upload(3 * mebibyte);
    await x.data();
    const first = emulator.memory();
    expect(first.reads).toBeGreaterThanOrEqual(3 * mebibyte);
    expect(first.pinned).toBeGreaterThanOrEqual(3 * mebibyte);
    for (let i = 0; i < 3; i++) await x.data();
    expect(emulator.memory()).toEqual(first);
    x.dispose();
  });

  test("no read waits for the memory of another", () => {
    expect(emulator.internalDependencies()).toBe(false);
  });

  test("a graph is recorded without what reads have kept", async () => {
    const x = upload(mebibyte);
    await x.data();
    expect(emulator.memory().reads).toBeGreaterThan(0);
    const graph = Graph.record(device, () => ops.scale(Tensor.ones([4], { device }), 2));
    expect(emulator.memory().reads).toBe(0);
    graph.dispose();
    x.dispose();
  });

  // Lazy streams free only what somebody waits for.
  test.each(["0", "1"])("a full device gives what nobody uses, lazy streams: %s", async (lazy) => {
    const env = { CUDA_EMU_MEMORY: "192", CUDA_EMU_LAZY: lazy };
    const { code, stdout, stderr } = await runProgram("full_device", { env });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const points = JSON.parse(stdout) as Record<string, unknown>;
    // Beside the tensors lie a few hundred bytes of the library's own.
    const near = (size: number) => expect.closeTo(size, 2);
    expect(points.read).toEqual({ allocator: near(60), reads: near(60) });
    expect(points.beside).toEqual({ allocator: near(180), reads: 0 });
    expect(points.large).toEqual({ allocator: near(184), reads: 0 });
    expect(points.refused).toMatch(
      /^ERR_OUT_OF_MEMORY out of memory: \d+ bytes wanted, \d+ live, the system has no more$/,
    );
    expect(points.again).toBe(184 * mebibyte);
    expect(points.budget).toMatch(/^ERR_OUT_OF_MEMORY out of memory: \d+ bytes wanted, 0 live, budget 1048576$/);
  });
});
