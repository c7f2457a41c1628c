// Calls of the CUDA runtime that a training step makes fail, one in each run: allocations, launches, copies, waits. Each gives a
// typed error, the process lives, the CPU goes on with the right bits, and nothing leaks. `npm run test:faults` has every call fail,
// otherwise every ninth does, from the first to the last.
import { afterEach, expect, test } from "vitest";
import { memory, synchronize } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { tinyTraining } from "../support/every_op.ts";
import { trainingSteps } from "../support/training_step.ts";

const device = "cuda-emulated";
const emulator = native.emulator!;
const stride = process.env.BIRKHOFF_EVERY_CALL === "1" ? 1 : 9;

afterEach(() => emulator?.reset());

test.runIf(emulator).each(Object.keys(trainingSteps))(
  "a step, %s",
  async (kind) => {
    /** From the same weights every time. @param failing  the number of the call that fails */
    const run = async (on: string, failing = 0) => {
      const training = tinyTraining(1, on);
      try {
        if (failing) emulator.failCall(failing);
        const result = await trainingSteps[kind]!(training, on);
        await synchronize(on);
        return result;
      } finally {
        training.dispose();
      }
    };
    const want = await run(device);
    const wantOnCpu = await run("cpu");
    await run(device);
    const before = memory();
    const allocations = emulator.liveAllocations();
    const codes = new Set<string>();
    let k = 1;
    for (; ; k += stride) {
      const outcome = await run(device, k).catch((caught: unknown) => caught as { code?: string });
      if (emulator.calls() < k) break;
      // Without room for the copy that a read makes on the device, it does without it.
      if (Array.isArray(outcome)) expect(outcome, `call ${k}`).toEqual(want);
      else {
        expect(outcome, `call ${k}`).toMatchObject({ code: expect.stringMatching(/^ERR_(DEVICE|OUT_OF_MEMORY)$/) });
        codes.add(outcome.code!);
      }
      if (k % 16 === 0) expect(await run("cpu"), `on the CPU after call ${k}`).toEqual(wantOnCpu);
      // Whatever is still on its way arrives before the next round.
      await synchronize(device).catch(() => {});
      emulator.reset();
      await synchronize(device);
      if (k % 16 === 0) expect(await run(device), `on the GPU after call ${k}`).toEqual(want);
      expect(memory(), `after call ${k}`).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
    }
    emulator.reset();
    expect(k).toBeGreaterThan(100);
    expect(await run(device)).toEqual(want);
    // A read in flight has a staging buffer, which is kept for the next one.
    expect(emulator.liveAllocations()).toBeLessThanOrEqual(allocations + want.length);
    expect(codes).toContain("ERR_DEVICE");
  },
  120_000,
);
