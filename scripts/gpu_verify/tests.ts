/** The tests on a GPU, told one by one as they end; see reporter.ts. */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { TestLine } from "./reporter.ts";
import { type Findings, failure, lines, node, type Setup } from "./stage.ts";

/** About the executor of CUDA sources, or impossible without it: a GPU cannot be told in which order to run, or when to fail. */
export const executorTests = ["test/cuda-emu/**", "test/cuda/failing_calls.test.ts", "test/cuda/schedules.test.ts"];

/** About the package as npm makes it: they need npm, git, CMake and dist, which a machine with a GPU may lack. */
export const packageTests = ["test/package.test.ts", "test/native/configure.test.ts"];

/** What the lines of a run say, whether it has ended or was ended. */
export function summary(told: readonly TestLine[]) {
  const of = (status: TestLine["status"]) => told.filter((line) => line.status === status);
  const name = ({ file, test }: TestLine) => (test ? `${file} > ${test}` : file);
  const ended = new Set(told.filter((l) => l.status !== "planned" && l.status !== "started").map(name));
  const begun = new Set(told.filter((l) => l.status !== "planned").map((l) => l.file));
  const slowest = [...of("passed"), ...of("failed")].sort((a, b) => (b.ms ?? 0) - (a.ms ?? 0)).slice(0, 5);
  return {
    passed: of("passed").map(name),
    failed: of("failed").map((line) => ({ test: name(line), why: line.why ?? "" })),
    skipped: of("skipped").length,
    unfinished: of("started")
      .map(name)
      .filter((test) => !ended.has(test)),
    notBegun: of("planned")
      .map((line) => line.file)
      .filter((file) => !begun.has(file)),
    slowest: slowest.map((line) => ({ test: name(line), seconds: Math.round(line.ms ?? 0) / 1000 })),
  };
}

export async function tests(setup: Setup, seconds: number): Promise<Findings> {
  const file = join(setup.scratch, "tests.jsonl");
  const workers = Math.min(8, availableParallelism());
  const args = [`--reporter=${join(import.meta.dirname, "reporter.ts")}`, `--maxWorkers=${workers}`];
  args.push(...[...executorTests, ...packageTests].map((path) => `--exclude=${path}`));
  const env = { BIRKHOFF_REQUIRE_CUDA: "1", BIRKHOFF_TEST_LINES: file };
  const vitest = ["node_modules/vitest/vitest.mjs", "run", ...args, ...(setup.tests ? [setup.tests] : [])];
  const outcome = await node(setup, vitest, { seconds, env });
  const found = summary(lines<TestLine>(file));
  const complete = !outcome.outOfTime && found.unfinished.length === 0 && found.notBegun.length === 0;
  const counts = `${found.passed.length} passed, ${found.failed.length} failed, ${found.skipped} skipped`;
  const data = {
    passed: found.passed.length,
    failed: found.failed.length,
    skipped: found.skipped,
    failures: found.failed,
    slowest: found.slowest,
    // Of a run that went to its end these say nothing more than the numbers.
    ...(complete ? {} : { passed_tests: found.passed, unfinished: found.unfinished, files_not_begun: found.notBegun }),
  };
  if (complete && outcome.code === 0 && found.failed.length === 0 && found.passed.length > 0)
    return { passed: true, note: counts, data };
  const evidence = [
    ...found.failed.map(({ test, why }) => `failed: ${test}\n${why}`),
    ...found.unfinished.map((test) => `unfinished: ${test}`),
    ...found.notBegun.map((path) => `not begun: ${path}`),
    ...(complete ? [] : found.passed.map((test) => `passed: ${test}`)),
  ];
  const { note, output } = failure(outcome);
  return {
    passed: false,
    outOfTime: outcome.outOfTime,
    note: outcome.outOfTime ? `out of time: ${counts}` : found.passed.length + found.failed.length > 0 ? counts : note,
    data,
    output: [...evidence, output].join("\n"),
  };
}
