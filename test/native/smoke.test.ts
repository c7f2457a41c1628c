/** The smoke suite of other processors, on this one: its stored results are those of the sources as they are. */
import { readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { runProgram } from "../support/program.ts";

const stored = fileURLToPath(new URL("stored_results.json", import.meta.url));

test("every op, 20 training steps, save and load give the stored results", async () => {
  const { code, stdout, stderr } = await runProgram("smoke", { args: [stored] });
  expect(stderr).toBe("");
  expect(code).toBe(0);
  expect(stdout).toMatch(/62 ops/);
});

test("a result, a loss that differs is told", async () => {
  const changed = JSON.parse(readFileSync(stored, "utf8"));
  changed.results["sinkhorn, float32"][1].size *= 1.001;
  changed.losses[19] += 0.001;
  const file = join(tmpdir(), `birkhoff-smoke-${process.pid}.json`);
  writeFileSync(file, JSON.stringify(changed));
  const { code, stderr } = await runProgram("smoke", { args: [file] });
  expect(code).toBe(1);
  expect(stderr).toMatch(/sinkhorn, float32, result 1: size/);
  expect(stderr).toMatch(/loss 19: /);
});
