/** The table for the reader: it fits the terminal, whatever that takes. */
import { round } from "./measure.ts";

export type Cell = string | number | undefined;

export interface Column {
  head: string;
  /** With the space before it. */
  width: number;
  /** Goes where the terminal is too narrow for all; the one with the largest number goes first. */
  spare?: number;
}

/** Of the label, less only where not even the columns that stay leave as much. */
const leastLabel = 34;
const mostLabel = 50;

/** Breaks text between words into lines of at most `columns`; those after the first are indented. */
export function wrap(text: string, columns: number): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line.trim() && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = `  ${word}`;
    } else line = line ? `${line} ${word}` : word;
  }
  return [...lines, line].join("\n");
}

function figure(value: number, width: number): string {
  const text = String(round(value, 3));
  return text.length <= width ? text : value.toExponential(1);
}

/** A label to the left, columns of figures to the right. */
export class Table {
  readonly #columns: readonly Column[];
  readonly #shown: readonly Column[];
  readonly #label: number;

  constructor(columns: readonly Column[], terminal: number) {
    const figures = (chosen: readonly Column[]) => chosen.reduce((sum, { width }) => sum + width, 0);
    let shown = columns;
    while (terminal - figures(shown) < leastLabel && shown.some((c) => c.spare)) {
      const first = Math.max(...shown.map((c) => c.spare ?? 0));
      shown = shown.filter((c) => c.spare !== first);
    }
    this.#columns = columns;
    this.#shown = shown;
    this.#label = Math.max(0, Math.min(mostLabel, terminal - figures(shown)));
  }

  head(label: string): string {
    return this.row(
      label,
      this.#columns.map((c) => c.head),
    );
  }

  /** @param cells  one for each column, also for those that are not shown. A label too long gets a line of its own. */
  row(label: string, cells: readonly Cell[]): string {
    const figures = this.#columns.map((column, i) => {
      const cell = cells[i];
      const text = cell === undefined ? "" : typeof cell === "number" ? figure(cell, column.width - 1) : cell;
      return this.#shown.includes(column) ? ` ${text}`.padStart(column.width) : "";
    });
    const start = label.length > this.#label ? `${label}\n${" ".repeat(this.#label)}` : label.padEnd(this.#label);
    return (start + figures.join("")).trimEnd();
  }
}
