// A training step gives the same bits in whatever order the executor runs threads, blocks and streams, and no check fires.
import { afterAll, expect, test } from "vitest";
import { native } from "../../lib/native.ts";
import { tinyTraining } from "../support/every_op.ts";
import { trainingSteps } from "../support/training_step.ts";

const device = "cuda-emulated";
const emulator = native.emulator!;

afterAll(() => emulator?.configure(0, 1, false, true));

const schedules = [
  ["forward", 0, 1],
  ["reverse", 1, 1],
  ["random, seed 1", 2, 1],
  ["random, seed 2", 2, 2],
  ["random, seed 3", 2, 3],
] as const;

test.runIf(emulator).each(Object.keys(trainingSteps))(
  "two steps, %s: the same bits under every schedule",
  async (kind) => {
    let want: Float32Array[] | undefined;
    for (const [name, order, seed] of schedules)
      for (const lazy of [false, true]) {
        emulator.configure(order, seed, lazy, true);
        const training = tinyTraining(1, device);
        await trainingSteps[kind]!(training, device);
        const result = await trainingSteps[kind]!(training, device);
        training.dispose();
        expect(emulator.lastReport()).toBe("");
        want ??= result;
        expect(result, `${name}${lazy ? ", lazy" : ""}`).toEqual(want);
      }
  },
);
