/**
 * vitest's reporter of a verification: one JSON line for each file there is, when a test begins and when it ends, to the file that
 * BIRKHOFF_TEST_LINES names, so that a run which is ended half-way still tells what passed, what failed and what it was at.
 */
import { appendFileSync } from "node:fs";
import { relative } from "node:path";
import type { Reporter, SerializedError, TestCase, TestModule, TestSpecification } from "vitest/node";

/** A file that is still to come, and one that could not be loaded, is a test without a name. */
export interface TestLine {
  file: string;
  test: string;
  status: "planned" | "started" | "passed" | "failed" | "skipped";
  ms?: number;
  why?: string;
}

const messages = (errors: readonly { message: string; stack?: string }[] = []) =>
  errors
    .map(({ message, stack }) => stack ?? message)
    .join("\n")
    .slice(0, 1000);

export default class LineReporter implements Reporter {
  readonly #file = process.env.BIRKHOFF_TEST_LINES!;

  #line({ moduleId }: { moduleId: string }, line: Omit<TestLine, "file">): void {
    appendFileSync(this.#file, `${JSON.stringify({ file: relative(process.cwd(), moduleId), ...line })}\n`);
  }

  onTestRunStart(specifications: readonly TestSpecification[]): void {
    for (const specification of specifications) this.#line(specification, { test: "", status: "planned" });
  }

  onTestCaseReady({ module, fullName }: TestCase): void {
    this.#line(module, { test: fullName, status: "started" });
  }

  onTestCaseResult(test: TestCase): void {
    const { state, errors } = test.result();
    if (state === "pending") return;
    const why = state === "failed" ? messages(errors) : undefined;
    this.#line(test.module, { test: test.fullName, status: state, ms: test.diagnostic()?.duration, why });
  }

  onTestModuleEnd(module: TestModule): void {
    const errors = module.errors();
    if (errors.length > 0) this.#line(module, { test: "", status: "failed", why: messages(errors) });
  }

  onTestRunEnd(_: readonly TestModule[], errors: readonly SerializedError[]): void {
    if (errors.length > 0) this.#line({ moduleId: "" }, { test: "", status: "failed", why: messages(errors) });
  }
}
