// A GPU that is not there, and one that is lost: the error says why, and the CPU goes on.
import { afterEach, describe, expect, test } from "vitest";
import { ops, setDevice, synchronize, Tensor, tidy } from "../lib/index.ts";
import { native } from "../lib/native.ts";
import { runProgram } from "./support/program.ts";

afterEach(() => native.emulator?.reset());

describe.runIf(native.emulator)("on the executor", () => {
  const device = "cuda-emulated";

  test.each([
    ["no driver", { CUDA_EMU_DRIVER: "0", CUDA_EMU_DEVICES: "0" }, "no NVIDIA driver is installed"],
    ["no GPU", { CUDA_EMU_DEVICES: "0" }, "no NVIDIA GPU was found"],
    ["a GPU without kernels", { CUDA_EMU_CAPABILITY: "75" }, "this build has no kernel image"],
    ["a GPU without memory pools", { CUDA_EMU_POOLS: "0" }, "it has no memory pools"],
  ])("%s: asking for it is an error that says so; the CPU is there", async (_, env, reason) => {
    const { code, stdout, stderr } = await runProgram("choose_device", { args: [device], env });
    expect([code, stderr]).toEqual([0, ""]);
    const { auto, errors, sum } = JSON.parse(stdout) as { auto: string; errors: string[]; sum: number[] };
    expect(auto).toBe("cpu");
    for (const [i, asked] of ["setDevice", "device"].entries())
      expect(errors[i]).toContain(`DeviceError ERR_DEVICE ${asked}: ${device} is not available: ${reason}`);
    expect(sum).toEqual([4, 6]);
  });

  test("lost: every later use is a DeviceError that says for how long, the CPU computes", async () => {
    const x = Tensor.from([1, 2], [2], { device });
    await synchronize(device);
    // One call of a read after the other, up to one that CUDA does not recover from.
    let message = "";
    for (let k = 1; k < 20 && !message.includes("cannot be used again"); k++) {
      native.emulator!.reset();
      native.emulator!.failCall(k);
      message = await x.data().then(
        () => "",
        (error: Error) => error.message,
      );
    }
    const lost = expect.objectContaining({
      code: "ERR_DEVICE",
      message: expect.stringContaining("the device cannot be used again in this process, others can"),
    });
    expect(() => tidy(() => ops.add(x, x))).toThrow(lost);
    expect(() => Tensor.from([1], [1], { device })).toThrow(lost);
    expect(() => x.dataSync()).toThrow(lost);
    await expect(x.data()).rejects.toEqual(lost);
    await expect(synchronize(device)).rejects.toEqual(lost);
    expect(tidy(() => [...ops.add(Tensor.from([1]), Tensor.from([2])).dataSync()])).toEqual([3]);
    x.dispose();
  });
});

test("a device nobody knows is an error that lists those there are", () => {
  expect(() => setDevice("tpu")).toThrow(/setDevice: device is "tpu", want "auto" or one of cpu/);
});
