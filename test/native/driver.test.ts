/**
 * NVIDIA's driver is started by the first call that needs a GPU, never by loading or by a program of the CPU: with a stand-in for it
 * (test/support/fake_libcuda.cpp), which the addon that was built with nvcc loads as it would the real one.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { birkhoff } from "../support/cli.ts";
import { runProgram } from "../support/program.ts";

const addon = fileURLToPath(new URL("../../build/Release/birkhoff.node", import.meta.url));
const hasCuda =
  existsSync(addon) &&
  execFileSync(process.execPath, ["-p", `require(${JSON.stringify(addon)}).info().gpuGemm`], {
    encoding: "utf8",
    env: { ...process.env, BIRKHOFF_CUBLAS: "none" },
  }).trim() !== "none";

describe.skipIf(!hasCuda)("the driver (needs build/Release/birkhoff.node, built with nvcc)", () => {
  const folder = mkdtempSync(join(tmpdir(), "birkhoff-driver-"));
  const record = join(folder, "calls");
  const env = { BIRKHOFF_ADDON: addon, LD_LIBRARY_PATH: folder, FAKE_CUDA_CALLS: record, BIRKHOFF_CUBLAS: "none" };
  const exported = `export ${Object.entries(env)
    .map(([name, value]) => `${name}='${value}'`)
    .join(" ")}`;
  /** What the stand-in was asked for since the test began, by all processes. */
  const calls = () => (existsSync(record) ? readFileSync(record, "utf8").trimEnd().split("\n") : []);

  beforeAll(() => {
    const source = fileURLToPath(new URL("../support/fake_libcuda.cpp", import.meta.url));
    const library = join(folder, "libcuda.so.1");
    execFileSync("g++", ["-shared", "-fPIC", "-O1", "-std=c++20", "-Wl,-soname,libcuda.so.1", "-o", library, source]);
  });
  beforeEach(() => rmSync(record, { force: true }));
  afterAll(() => rmSync(folder, { recursive: true }));

  /** Milliseconds that `statement` takes in a process of its own, its addon loaded or not. */
  const time = (before: string, statement: string) => {
    const program = `const load = () => require(${JSON.stringify(addon)});
      ${before}
      const from = process.hrtime.bigint();
      ${statement};
      console.log(Number(process.hrtime.bigint() - from) / 1e6);`;
    return Number(
      execFileSync(process.execPath, ["-e", program], { encoding: "utf8", env: { ...process.env, ...env } }),
    );
  };

  it("is not started by loading, which takes less than 20 ms", () => {
    // The fastest counts: what the others take longer is other processes' work.
    expect(Math.min(...Array.from({ length: 5 }, () => time("", "load()")))).toBeLessThan(20);
    expect(calls()).toEqual([]);
  });

  it("is started by devices(), once", () => {
    const took = time("const { devices } = load();", "devices(); devices()");
    expect(took).toBeGreaterThanOrEqual(200);
    expect(calls()).toEqual(["loaded", "cuInit"]);
  });

  it("is started once, by the first of several workers that ask at the same time", () => {
    const program = `const { Worker } = require("node:worker_threads");
      require(${JSON.stringify(addon)}); // what it knows lasts as long as anyone has it loaded
      const ask = 'const { devices } = require(${JSON.stringify(addon)}); require("node:worker_threads").parentPort.postMessage(devices());';
      for (let i = 0; i < 4; i++)
        new Worker(ask, { eval: true }).on("message", (found) => console.log(found.map((d) => d.name).join()));`;
    const found = execFileSync(process.execPath, ["-e", program], {
      encoding: "utf8",
      env: { ...process.env, ...env },
    });
    expect(found).toBe("cpu,cuda\n".repeat(4));
    expect(calls()).toEqual(["loaded", "cuInit"]);
  });

  it.each(["chosen", "named"])(
    "is not started by a program whose device is the CPU, %s: in main thread, worker, child",
    async (how) => {
      const { code, stdout, stderr } = await runProgram("cpu_only", { args: [how, folder], env });
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(stdout).toBe("main, worker, child\n");
      expect(readdirSync(folder).filter((file) => file.endsWith(".safetensors")).length).toBeGreaterThanOrEqual(3);
      expect(calls()).toEqual([]);
    },
  );

  it("is started by the same program where it leaves the choice to auto", async () => {
    const { code, stderr } = await runProgram("cpu_only", { args: ["auto", folder], env });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(calls()).toEqual(["loaded", "cuInit", "loaded", "cuInit"]); // once in the process, once in its child
  });

  it("is not started by train --device cpu; it is by doctor", async () => {
    const data = join(folder, "data.txt");
    writeFileSync(data, "the quick brown fox jumps over the lazy dog. ".repeat(100));
    const size = ["--dim", "16", "--layers", "1", "--heads", "2", "--context", "16", "--batch", "2", "--steps", "1"];
    const trained = await birkhoff(["train", "--data", data, "--device", "cpu", ...size], { before: exported });
    expect({ code: trained.code, stderr: trained.stderr }).toEqual({ code: 0, stderr: "" });
    expect(calls()).toEqual([]);
    const examined = await birkhoff(["doctor"], { before: exported });
    expect(examined.stdout).toMatch(/^cuda +not used: no NVIDIA GPU was found$/m);
    expect(calls()).toContain("cuInit");
  });
});
