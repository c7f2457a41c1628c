/** The table on a narrow and a wide terminal. */
import { expect, test } from "vitest";
import { Table, wrap } from "../../lib/bench/support/table.ts";

const columns = [
  { head: "ms", width: 8 },
  { head: "quartiles", width: 18, spare: 1 },
  { head: "GFLOP/s", width: 24, spare: 2 },
  { head: "% copy", width: 8 },
];

test("a wide terminal has all columns", () => {
  const table = new Table(columns, 120);
  expect(table.head("kernel")).toMatch(/^kernel +ms +quartiles +GFLOP\/s +% copy$/);
  expect(table.row("a", [1.2345, "1 – 2", 5, "9 %"])).toMatch(/^a +1\.23 +1 – 2 +5 +9 %$/);
});

test("a narrow one loses those it can spare, the last one first, and keeps cells below their heads", () => {
  const at80 = new Table(columns, 80);
  expect(at80.head("kernel")).toMatch(/^kernel +ms +quartiles +% copy$/);
  expect(new Table(columns, 60).head("kernel")).toMatch(/^kernel +ms +% copy$/);
  const [head, row] = [at80.head("kernel"), at80.row("a", [1.2345, "1 – 2", 5, "9 %"])];
  expect(row.length).toBe(head.length);
  expect(head.length).toBeLessThanOrEqual(80);
});

test("a label too long stands on a line of its own; figures stay apart and short", () => {
  const table = new Table(columns, 60);
  const lines = table.row("x".repeat(50), [0.00012345, "", "", "100 %"]).split("\n");
  expect(lines[0]).toBe("x".repeat(50));
  expect(lines[1]).toMatch(/^ +1\.2e-4 +100 %$/);
  expect(Math.max(...lines.map((l) => l.length))).toBeLessThanOrEqual(60);
});

test("text is broken between words", () => {
  expect(wrap("one two three", 8)).toBe("one two\n  three");
  expect(wrap("unbreakable", 4)).toBe("unbreakable");
});
