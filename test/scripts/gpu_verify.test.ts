/** The verification of a GPU, run against the executor of CUDA sources, with a stand-in for compute-sanitizer. */
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { native } from "../../lib/native.ts";
import { allPassed, markdown, type StageResult, slug, type Verification } from "../../scripts/gpu_verify/report.ts";
import { stages, totalBudget } from "../../scripts/gpu_verify/stages.ts";
import { executorTests, packageTests, summary } from "../../scripts/gpu_verify/tests.ts";

const root = join(import.meta.dirname, "../..");
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "birkhoff-verify-test-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function verify(args: readonly string[], env: Record<string, string> = {}) {
  const script = join(root, "scripts/gpu_verify.sh");
  return spawnSync("bash", [script, ...args], {
    encoding: "utf8",
    env: { ...process.env, NODE: process.execPath, ...env },
  });
}

const addon = process.env.BIRKHOFF_ADDON ?? join(root, "build/Release/birkhoff.node");

/** A program in place of compute-sanitizer: runs its program, or at once says what the tool would of one with errors. */
function stub(name: string, summary: string, { errors = false, seconds = 0 } = {}): string {
  const file = join(folder, name);
  const run = `while [ "$1" != "--error-exitcode" ]; do shift; done; shift 2\nsleep ${seconds}\n"$@" || exit 99`;
  writeFileSync(file, `#!/bin/sh\n${errors ? "" : run}\necho "========= ${summary}"\nexit ${errors ? 99 : 0}\n`);
  chmodSync(file, 0o755);
  return file;
}

function reportIn(results: string): { json: Verification; md: string; files: string[] } {
  const files = readdirSync(results);
  const read = (ending: string) => readFileSync(join(results, files.find((f) => f.endsWith(ending))!), "utf8");
  return { json: JSON.parse(read(".json")) as Verification, md: read(".md"), files };
}

describe("what cannot be verified", () => {
  test("no GPU: exit code 3, the reason, nothing written", () => {
    const results = join(folder, "none");
    const { status, stderr } = verify(["--device", "cuda:99", "--addon", addon, "--results", results]);
    expect(stderr).toContain("there is no NVIDIA GPU to verify");
    expect(status).toBe(3);
    expect(existsSync(results)).toBe(false);
  });

  test("no addon: exit code 1 and the reason", () => {
    const { status, stderr } = verify(["--addon", join(folder, "missing.node")]);
    expect(stderr).toContain("missing.node");
    expect(status).toBe(1);
  });

  test("no Node: exit code 1 and how to name one", () => {
    const { status, stderr } = verify([], { NODE: "/nowhere/node" });
    expect(stderr).toContain("/nowhere/node was not found");
    expect(status).toBe(1);
  });

  test.each([
    ["--only", "nothing"],
    ["--budget", "never"],
    ["--what", "x"],
  ])("%s %s: exit code 2", (...args) => {
    expect(verify(args).status).toBe(2);
  });
});

// A GPU's own verification runs these tests too: it must not start itself.
describe.runIf(native.emulator)("a verification", () => {
  const common = ["--device", "cuda-emulated", "--addon", addon, "--tiny"];

  test("in which everything passes: exit code 0, one JSON and one table", () => {
    const results = join(folder, "passed");
    const { status, stderr } = verify([
      ...common,
      ...["--results", results, "--only", "tests,racecheck,train bfloat16,bench bfloat16"],
      ...["--tests", "test/native/timing.test.ts"],
      ...["--sanitizer", stub("good", "RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)")],
    ]);
    expect(status, stderr).toBe(0);
    const { json, md, files } = reportIn(results);
    expect(files).toHaveLength(2);
    expect(files[0]).toMatch(/^cuda-executor-cpu-\d{4}-\d\d-\d\d\.json$/);
    expect(json).toMatchObject({ complete: true, passed: true });
    expect(json.stages.map((s) => `${s.name}: ${s.status}`)).toEqual([
      "tests: passed",
      "train bfloat16: passed",
      "bench bfloat16: passed",
      "racecheck: passed",
    ]);
    const of = (name: string) => json.stages.find((s) => s.name === name)!;
    expect(of("tests").data).toMatchObject({ failed: 0 });
    expect(of("tests").data!.passed).toBeGreaterThan(3);
    expect(of("tests").data).not.toHaveProperty("unfinished");
    expect(of("racecheck").data!.calls).toBeGreaterThan(90);
    expect(of("train bfloat16").data!.final_loss).toBeGreaterThan(0);
    expect(of("bench bfloat16").rows!.some((r) => r.name === "seam forward" && Number(r.events_us) > 0)).toBe(true);
    expect(json.conditions.commit).toMatch(/^[0-9a-f]{12}(-dirty)?$|^unknown$/);
    expect(md).toContain("| seam forward | T=1 n=4 C=40 | bfloat16 |");
    expect(md).toContain("all passed");
  });

  test("in which parts fail: the others run, exit code 1, the report says what and why", () => {
    const results = join(folder, "failed");
    const { status } = verify([
      ...common,
      ...["--results", results, "--only", "tests,memcheck,train float32"],
      ...["--tests", "test/nowhere.test.ts"],
      ...["--sanitizer", stub("bad", "ERROR SUMMARY: 3 errors", { errors: true })],
    ]);
    expect(status).toBe(1);
    const { json, md } = reportIn(results);
    expect(json).toMatchObject({ complete: true, passed: false });
    expect(json.stages.map((s) => s.status)).toEqual(["failed", "passed", "failed"]);
    expect(json.stages[2]!.note).toBe("ERROR SUMMARY: 3 errors");
    expect(md).toContain("## Output of memcheck");
  });

  test("of tests that run out of time: what passed, what failed and what it was at", () => {
    // vitest looks for tests in this folder alone.
    const path = "test/scripts/endless.test.ts";
    const endless = join(root, path);
    writeFileSync(
      endless,
      `import { expect, test } from "vitest";
test("is quick", () => {});
test("is wrong", () => expect(1).toBe(2));
test("has no end", () => new Promise(() => {}));
`,
    );
    const results = join(folder, "endless");
    try {
      verify([...common, ...["--results", results, "--only", "tests", "--tests", path, "--budget", "12"]]);
    } finally {
      rmSync(endless);
    }
    const { json, md } = reportIn(results);
    const [stage] = json.stages;
    expect(stage).toMatchObject({ status: "out of time", note: "out of time: 1 passed, 1 failed, 0 skipped" });
    expect(stage!.data).toMatchObject({
      passed_tests: [`${path} > is quick`],
      unfinished: [`${path} > has no end`],
      failures: [{ test: `${path} > is wrong` }],
    });
    expect(md).toContain(`failed: ${path} > is wrong\nAssertionError: expected 1 to be 2`);
  });

  test("without compute-sanitizer: failed, never left out", () => {
    const results = join(folder, "absent");
    const { status } = verify([
      ...common,
      ...["--results", results, "--only", "memcheck", "--sanitizer", join(folder, "nothing-here")],
    ]);
    expect(status).toBe(1);
    expect(reportIn(results).json.stages[0]).toMatchObject({ status: "failed", required: true });
  });

  test("out of time: said of the part that ran, and of those that could not", () => {
    const results = join(folder, "late");
    const { status } = verify([
      ...common,
      ...["--results", results, "--only", "memcheck,racecheck", "--budget", "4"],
      ...["--sanitizer", stub("slow", "ERROR SUMMARY: 0 errors", { seconds: 30 })],
    ]);
    expect(status).toBe(1);
    const { json } = reportIn(results);
    expect(json.stages.map((s) => s.status)).toEqual(["out of time", "not run"]);
    expect(json.seconds).toBeLessThan(20);
  });
});

test("the tests left out on a GPU are there", () => {
  for (const path of [...executorTests, ...packageTests])
    expect(existsSync(join(root, path.replace("/**", ""))), path).toBe(true);
});

test("the lines of a run that was ended: files not begun are named too", () => {
  const found = summary([
    { file: "a", test: "", status: "planned" },
    { file: "b", test: "", status: "planned" },
    { file: "c", test: "", status: "planned" },
    { file: "a", test: "one", status: "started" },
    { file: "a", test: "one", status: "passed", ms: 5 },
    { file: "a", test: "two", status: "started" },
    { file: "b", test: "", status: "failed", why: "no such module" },
  ]);
  expect(found).toMatchObject({
    passed: ["a > one"],
    failed: [{ test: "b", why: "no such module" }],
    unfinished: ["a > two"],
    notBegun: ["c"],
  });
});

describe("the report", () => {
  const stage = (changes: Partial<StageResult>): StageResult => ({
    name: "tests",
    status: "passed",
    required: true,
    seconds: 1,
    budget: 2,
    note: "",
    ...changes,
  });

  test("passes only if all that counts has passed", () => {
    expect(allPassed([stage({}), stage({ required: false, status: "out of time" })])).toBe(true);
    expect(allPassed([stage({}), stage({ status: "out of time" })])).toBe(false);
    expect(allPassed([stage({ status: "not run" })])).toBe(false);
    expect(allPassed([])).toBe(false);
  });

  test("is named after the GPU", () => {
    expect(slug("NVIDIA H200, compute capability 9.0")).toBe("nvidia-h200");
    expect(slug("NVIDIA GeForce RTX 4090, compute capability 8.9")).toBe("nvidia-geforce-rtx-4090");
  });

  test("shows what does not fit and keeps its table whole", () => {
    const copies = { copy: "kernel", driver_copy_gb_per_s: 2900, kernel_copy_gb_per_s: 3000 };
    const figures = { events_us: 210, graph_us: 205, floor_us: 201, gb_per_s: 2880, share_of_copy: 0.957, ...copies };
    const rows = [
      { name: "merge", shape: "T=1 | 2", dtype: "bfloat16", skipped: "out of memory" },
      { name: "merge", shape: "T=8192", dtype: "bfloat16", ...figures },
    ];
    const conditions = {
      device: "cuda",
      gpu: "X",
      driver: "1",
      cuda: null,
      toolkit: null,
      clocks: { "clocks.sm": "5" },
    };
    const rest = { gemm: null, processor: "p", node: "v", commit: "c", date: "2026-01-02T03:04:05Z" };
    const whole = { complete: true, passed: true, seconds: 1, conditions: { ...conditions, ...rest } };
    const md = markdown({ ...whole, stages: [stage({ rows })] });
    expect(md).toContain("| merge | T=1 \\| 2 | bfloat16 | does not fit |");
    expect(md).toContain("| merge | T=8192 | bfloat16 | 210 | 205 | 201 | 2880 | 96 % | 2900 / 3000 |");
    expect(md).toContain("| clocks.sm | 5 |");
  });

  test("parts take less than 10 minutes together", () => {
    expect(totalBudget).toBeLessThan(600);
    expect(stages.reduce((sum, s) => sum + s.budget, 0)).toBeLessThanOrEqual(totalBudget);
  });
});
