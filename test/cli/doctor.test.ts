/** doctor on machines that lack something of CUDA, as the executor plays them; and which GEMM library the GPU has. */
import { describe, expect, it } from "vitest";
import { native } from "../../lib/native.ts";
import { birkhoff } from "../support/cli.ts";

const doctor = async (machine: Record<string, string>) => {
  const before = Object.entries(machine).map(([name, value]) => `export ${name}=${value}`);
  const { code, stdout, stderr } = await birkhoff(["doctor"], { before: ["true", ...before].join("; ") });
  expect(stderr).toBe("");
  expect(code).toBe(0);
  return stdout;
};

describe.runIf(native.emulator)("doctor says why CUDA is not used", () => {
  it.each([
    ["no driver", { CUDA_EMU_DRIVER: "0", CUDA_EMU_DEVICES: "0" }, /no NVIDIA driver is installed/],
    [
      "a driver too old",
      { CUDA_EMU_DRIVER: "11040" },
      /the NVIDIA driver is too old: it supports CUDA 11\.4, this build needs 1[23]\.\d+/,
    ],
    ["no GPU", { CUDA_EMU_DEVICES: "0" }, /no NVIDIA GPU was found/],
    [
      "no kernel image",
      { CUDA_EMU_CAPABILITY: "75" },
      /this build has no kernel image for compute capability 7\.5 \(it has 90-virtual\)/,
    ],
    [
      "no memory pools",
      { CUDA_EMU_POOLS: "0" },
      /it has no memory pools \(cudaMemPoolCreate is not supported\), like some/,
    ],
    ["memory pools on paper only", { CUDA_EMU_POOLS: "-1" }, /it has no memory pools/],
  ])("%s", async (_, machine, reason) => {
    const stdout = await doctor(machine);
    expect(/^cuda-emulated +not used: (.*)$/m.exec(stdout)?.[1]).toMatch(reason);
    expect(stdout).toMatch(/^auto +chooses cpu$/m);
  });

  it("and which products the GPU uses: its own kernels, cuBLAS missing, or a library that cannot be used", async () => {
    const plain = await doctor({});
    expect(plain).toMatch(/^cuda-emulated +CUDA executor \(CPU\), compute capability 9\.0$/m);
    expect(plain).toMatch(/^GPU GEMM +built-in \(cuBLAS 12 or 13 not found; BIRKHOFF_CUBLAS can name its file\)$/m);
    expect(await doctor({ BIRKHOFF_CUBLAS: "none" })).toMatch(/^GPU GEMM +built-in \(BIRKHOFF_CUBLAS=none\)$/m);
    expect(await doctor({ BIRKHOFF_CUBLAS: "/nowhere/libcublas.so.13" })).toMatch(
      /^GPU GEMM +none: BIRKHOFF_CUBLAS is "\/nowhere\/libcublas\.so\.13", which cannot be used: .*No such file/m,
    );
  });
});
