// Operands from two devices are a DeviceError that names them, for every op; nothing is queued and nothing leaks.
import { expect, test } from "vitest";
import { memory, Tensor, tidy } from "../../lib/index.ts";
import { testDevices } from "../support/devices.ts";
import { everyOp, inputsOf } from "../support/every_op.ts";

const others = testDevices.filter((device) => device !== "cpu");

test.skipIf(others.length === 0).each(everyOp.filter((op) => op.inputs.length > 1))("$name", (op) => {
  const inputs = inputsOf(op, "cpu");
  const before = memory();
  for (const device of others)
    for (const at of inputs.keys()) {
      const moved = inputs[at]!.to(device);
      expect(() => tidy(() => op.op(...inputs.map((t, i) => (i === at ? moved : t)))), `input ${at}`).toThrow(
        expect.objectContaining({
          code: "ERR_DEVICE",
          message: expect.stringMatching(`(cpu.*${device}|${device}.*cpu)`),
        }),
      );
      moved.dispose();
    }
  expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
  for (const t of inputs) t.dispose();
});

test.skipIf(others.length === 0)("moved to one device, they work", () => {
  for (const device of others)
    tidy(() => {
      const a = Tensor.from([1, 2], [2], { device: "cpu" });
      const b = a.to(device);
      expect([b.device, ...b.to("cpu").dataSync()]).toEqual([device, 1, 2]);
    });
});
