/**
 * cuBLAS, which is loaded when it is found at run time: by a stand-in (test/support/fake_cublas.cpp) that computes on the host, so
 * on the executor. The executor loads it from BIRKHOFF_CUBLAS alone; where the search looks is asked of the addon with CUDA.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { native } from "../../lib/native.ts";
import { runProgram } from "../support/program.ts";
import { bfloat16Rounding, float32Steps } from "../support/tolerance.ts";

const source = fileURLToPath(new URL("../support/fake_cublas.cpp", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "birkhoff-cublas-"));
afterAll(() => rmSync(folder, { recursive: true }));

function build(file: string, ...definitions: string[]): string {
  const path = join(folder, file);
  mkdirSync(dirname(path), { recursive: true });
  execFileSync("g++", ["-shared", "-fPIC", "-O1", "-std=c++20", ...definitions, "-o", path, source]);
  return path;
}

interface Outcome {
  gpuGemm: string;
  products: { what: string; error: number; largest: number }[];
  error?: { name: string; code: string; message: string };
  after?: unknown[][];
}

async function multiply(cublas: string): Promise<Outcome> {
  const { code, stdout, stderr } = await runProgram("matmul_on", {
    args: ["cuda-emulated"],
    env: { BIRKHOFF_CUBLAS: cublas },
  });
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout);
}

function expectProducts({ products, error }: Outcome): void {
  expect(error).toBeUndefined();
  expect(products).toHaveLength(16);
  for (const { what, error: got, largest } of products) {
    // Seven products and a bias in any order; then one rounding of what is stored, on either side.
    const rounding = what.includes("bfloat16") ? 2 * bfloat16Rounding * largest : 0;
    expect(got, what).toBeLessThanOrEqual(float32Steps(2 * 9) * 8 + rounding);
    expect(largest, what).toBeGreaterThan(0.5);
  }
}

describe.runIf(native.emulator)("BIRKHOFF_CUBLAS on the executor", () => {
  it("a library that works computes the products, in every layout and type", async () => {
    const file = build("works.so");
    const outcome = await multiply(file);
    expect(outcome.gpuGemm).toBe(`cuBLAS 13.7 (${file})`);
    expectProducts(outcome);
  });

  it("cuBLAS 12 is taken too", async () => {
    const file = build("twelve.so", "-DMAJOR=12");
    expect((await multiply(file)).gpuGemm).toBe(`cuBLAS 12.7 (${file})`);
  });

  it.each(["none", "builtin"])("%s: the kernels of the package", async (choice) => {
    const outcome = await multiply(choice);
    expect(outcome.gpuGemm).toBe(`built-in (BIRKHOFF_CUBLAS=${choice})`);
    expectProducts(outcome);
  });

  it("unset: the same, and says how to name a library", async () => {
    const outcome = await multiply("");
    expect(outcome.gpuGemm).toMatch(/^built-in \(cuBLAS 12 or 13 not found; BIRKHOFF_CUBLAS can name its file\)$/);
    expectProducts(outcome);
  });

  it.each([
    ["that is absent", "absent.so", undefined, /absent\.so: cannot open shared object file/],
    ["of version 11", "eleven.so", ["-DMAJOR=11"], /eleven\.so is cuBLAS 11, want 12 or 13/],
    ["without a function", "partial.so", ["-DWITHOUT_GEMM"], /partial\.so has no cublasGemmStridedBatchedEx/],
  ])("a library %s is a DeviceError that says why; the CPU goes on", async (_, name, definitions, reason) => {
    const file = definitions ? build(name, ...definitions) : join(folder, name);
    const { gpuGemm, error, after } = await multiply(file);
    expect(gpuGemm).toMatch(/^none: BIRKHOFF_CUBLAS is "/);
    expect(gpuGemm).toMatch(reason);
    expect(error).toMatchObject({ name: "DeviceError", code: "ERR_DEVICE" });
    expect(error!.message).toMatch(reason);
    expect(after![1]).toEqual([2, 4, 6]);
  });

  it("a handle that cannot be made is a DeviceError that names the way out", async () => {
    const { error, after } = await multiply(build("creates.so", "-DCREATE_STATUS=1"));
    expect(error).toMatchObject({ name: "DeviceError", code: "ERR_DEVICE" });
    expect(error!.message).toMatch(/cublasCreate \(BIRKHOFF_CUBLAS=none .*CUBLAS_STATUS_NOT_INITIALIZED/);
    expect(after![1]).toEqual([2, 4, 6]);
  });

  it("a product that fails is a DeviceError at the next read; the device and the CPU go on", async () => {
    const { error, after, products } = await multiply(build("fails.so", "-DGEMM_STATUS=13"));
    expect(products).toEqual([]);
    expect(error).toMatchObject({ name: "DeviceError", code: "ERR_DEVICE" });
    expect(error!.message).toMatch(/cublasGemmStridedBatchedEx failed: CUBLAS_STATUS_EXECUTION_FAILED/);
    expect(after).toEqual([
      [2, 4, 6],
      [2, 4, 6],
    ]);
  });
});

/** The addon that was built with nvcc knows its GEMM library without a GPU. */
const release = fileURLToPath(new URL("../../build/Release/birkhoff.node", import.meta.url));
const gpuGemm = (environment: Record<string, string>): string =>
  execFileSync(process.execPath, ["-p", `require(${JSON.stringify(release)}).info().gpuGemm`], {
    encoding: "utf8",
    env: { HOME: folder, PATH: process.env.PATH, ...environment },
  }).trim();
const hasCuda = existsSync(release) && gpuGemm({ BIRKHOFF_CUBLAS: "none" }) !== "none";

// A real one that the loader finds comes before all that a test can make.
const hasOwn = hasCuda && gpuGemm({}).startsWith("cuBLAS");

describe.skipIf(!hasCuda || hasOwn)(
  "where cuBLAS is looked for (needs an addon built with nvcc, and no cuBLAS)",
  () => {
    const places = {
      loader: "loader/libcublas.so.13",
      home: "toolkit/lib64/libcublas.so.12",
      path: "other/targets/x86_64-linux/lib/libcublas.so.13",
      python: "venv/lib/python3.12/site-packages/nvidia/cublas/lib/libcublas.so.12",
    };
    const environment = {
      LD_LIBRARY_PATH: join(folder, "loader"),
      CUDA_HOME: join(folder, "toolkit"),
      CUDA_PATH: join(folder, "other"),
      VIRTUAL_ENV: join(folder, "venv"),
    };
    beforeAll(() => {
      for (const place of Object.values(places)) build(place, `-DMAJOR=${place.slice(-2)}`);
    });

    it("the loader's search, then CUDA_HOME, CUDA_PATH, Python packages; BIRKHOFF_CUBLAS before all", () => {
      const { LD_LIBRARY_PATH, CUDA_HOME, CUDA_PATH, VIRTUAL_ENV } = environment;
      const found = (place: string) => `cuBLAS ${place.slice(-2)}.7 (${join(folder, place)})`;
      expect(gpuGemm(environment)).toBe(found(places.loader));
      expect(gpuGemm({ CUDA_HOME, CUDA_PATH, VIRTUAL_ENV })).toBe(found(places.home));
      expect(gpuGemm({ CUDA_PATH, VIRTUAL_ENV })).toBe(found(places.path));
      expect(gpuGemm({ VIRTUAL_ENV })).toBe(found(places.python));
      expect(gpuGemm({ ...environment, BIRKHOFF_CUBLAS: join(folder, places.python) })).toBe(found(places.python));
      expect(gpuGemm({ LD_LIBRARY_PATH })).toBe(found(places.loader));
    });

    it("a library that was found but cannot be used is not passed over in silence", () => {
      build("broken/lib64/libcublas.so.13", "-DMAJOR=11");
      expect(gpuGemm({ CUDA_HOME: join(folder, "broken") })).toMatch(
        /^built-in \(cuBLAS cannot be used: .*libcublas\.so\.13 is cuBLAS 11, want 12 or 13\)$/,
      );
    });
  },
);
