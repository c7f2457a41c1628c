/**
 * The executor of CUDA sources checks itself: every deliberately broken kernel is reported with the right kind, correct
 * ones pass, matrix fragments are laid out as PTX says, streams and graphs behave, failed calls leak nothing; all under
 * five schedules, with streams eager and lazy.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { buildEmulated } from "../support/emulated_addon.ts";

const root = join(import.meta.dirname, "../..");
const checks = join(root, "build/test/cuda-emu/cuda_emu_checks");

type Kind = "race" | "bounds" | "uninitialised" | "divergence" | "misaligned" | "other";
interface KernelResult {
  name: string;
  error: number;
  kinds: Kind[];
  right: boolean;
  report: string;
}

const correct = ["reversed", "last_block", "half_blocks", "copies_ahead", "struct_parameters"];
const broken: Record<string, Kind> = {
  missing_sync: "race",
  missing_sync_before_reuse: "race",
  missing_syncwarp: "race",
  shuffle_is_no_fence: "race",
  race_between_blocks: "race",
  overlapping_writes: "race",
  copy_without_wait: "race",
  copy_without_sync: "race",
  copy_wait_one_group_short: "race",
  wrong_half_block: "race",
  last_block_without_fence: "race",
  shared_bounds: "bounds",
  dynamic_shared_bounds: "bounds",
  dynamic_shared_not_given: "bounds",
  read_beyond: "bounds",
  write_beyond: "bounds",
  host_pointer_in_memory: "bounds",
  host_pointer_as_parameter: "bounds",
  host_pointer_in_struct: "bounds",
  freed_memory: "bounds",
  other_threads_local: "bounds",
  divergent_shuffle: "divergence",
  shuffles_in_both_arms: "divergence",
  caller_not_in_mask: "divergence",
  source_has_exited: "divergence",
  barriers_in_both_arms: "divergence",
  barrier_and_shuffle: "divergence",
  uninitialised_shared: "uninitialised",
  uninitialised_global: "uninitialised",
  misaligned: "misaligned",
  static_and_dynamic_shared: "other",
  trap: "other",
};
// No report tells of these: their results are wrong where mma rounds as tensor cores do, and right where it does not.
const cutOff = ["one_sum_of_all_columns", "low_terms_last", "window_in_the_accumulator"];
const cudaErrorInvalidConfiguration = 9;

const schedules = [
  { name: "forward", order: 0, seed: 1 },
  { name: "reverse", order: 1, seed: 1 },
  { name: "random, seed 1", order: 2, seed: 1 },
  { name: "random, seed 2", order: 2, seed: 2 },
  { name: "random, seed 3", order: 2, seed: 3 },
].flatMap((schedule) => [0, 1].map((lazy) => ({ ...schedule, lazy, name: `${schedule.name}${lazy ? ", lazy" : ""}` })));

beforeAll(() => {
  buildEmulated("cuda_emu_checks");
}, 300_000);

function run(group: string, schedule: (typeof schedules)[number]) {
  const args = [group, String(schedule.order), String(schedule.seed), String(schedule.lazy)];
  const output = execFileSync(checks, args, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  return output
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
}

describe.each(schedules)("schedule $name", (schedule) => {
  test("broken kernels are caught, correct ones pass", () => {
    const results: KernelResult[] = run("broken", schedule);
    const sums = cutOff.flatMap((name) => [`${name}, nearest`, `${name}, truncate`]);
    expect(results.map(({ name }) => name).sort()).toEqual(
      [...correct, ...Object.keys(broken), ...sums, "empty_grid"].sort(),
    );
    for (const result of results) {
      const kind = broken[result.name];
      if (kind) {
        expect(result.kinds, result.name).toContain(kind);
        expect(result.error, result.name).not.toBe(0);
        expect(result.report, result.name).toMatch(/broken\.cu:\d+|kernel@|__trap\(\)|is not a device pointer/);
      } else if (result.name === "empty_grid") {
        expect(result).toMatchObject({ error: cudaErrorInvalidConfiguration, kinds: [] });
      } else {
        const right = !result.name.endsWith(", truncate");
        expect(result, result.name).toMatchObject({ error: 0, kinds: [], right, report: "" });
      }
    }
  });

  test.each([
    ["fragments", 15],
    ["streams", 30],
    ["faults", 60],
  ])("%s", (group, atLeast) => {
    const results: { name: string; ok: boolean }[] = run(group, schedule);
    expect(results.length).toBeGreaterThanOrEqual(atLeast);
    expect(results.filter(({ ok }) => !ok)).toEqual([]);
  });
});

test("a race is reported with both source lines", () => {
  const result = (run("broken", schedules[0]!) as KernelResult[]).find(
    ({ name }) => name === "missing_sync_before_reuse",
  );
  expect(result!.report).toMatch(
    /^data race in shared memory at offset \d+: write at broken\.cu:\d+ against the read at broken\.cu:\d+ by block \(0,0,0\) thread \(\d+,0,0\)/,
  );
});

test("without the toolkit's headers the build says what to install", () => {
  const { status, stderr } = spawnSync(
    "cmake",
    [
      "-S",
      join(root, "test/cuda-emu"),
      "-B",
      join(root, "build/cuda-emu-without-toolkit"),
      "-DCUDA_EMU_TOOLKIT=/nonexistent",
    ],
    { encoding: "utf8" },
  );
  expect(status).not.toBe(0);
  expect(stderr.replace(/\s+/g, " ")).toContain("install the CUDA toolkit");
});
