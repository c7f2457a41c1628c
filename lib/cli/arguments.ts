/** Command-line flags from one table per command: parsing, messages that say what is wanted, and `--help` come from it. */
import { parseArgs } from "node:util";
import { BirkhoffError } from "../errors.ts";
import { nearest } from "../nearest.ts";

/** A flag or value the user got wrong; exit code 2. */
export class UsageError extends BirkhoffError {
  constructor(message: string) {
    super(message, "ERR_USAGE");
  }
}

export interface Flag {
  /** What the value is called in the help; absent for a switch. */
  value?: string;
  help: string;
}

export type Flags = Record<string, Flag>;

/** Values as typed, without the leading dashes. */
export type Given = Map<string, string | true>;

/**
 * Parses flags strictly.
 *
 * @throws {UsageError} an unknown flag (with the nearest known one), a missing or superfluous value, a flag given twice, a stray word
 */
export function parseFlags(command: string, flags: Flags, args: readonly string[]): Given {
  const all: Flags = { ...flags, help: { help: "show this help" } };
  const options = Object.fromEntries(
    Object.entries(all).map(([name, flag]) => [
      name,
      { type: flag.value ? ("string" as const) : ("boolean" as const) },
    ]),
  );
  const { tokens } = parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true });
  const given: Given = new Map();
  for (const token of tokens ?? []) {
    if (token.kind === "option-terminator") continue;
    if (token.kind === "positional")
      throw new UsageError(
        `${command}: got the word ${JSON.stringify(token.value)}, want flags only; see birkhoff ${command} --help`,
      );
    const { name } = token;
    const flag = token.rawName === `--${name}` && Object.hasOwn(all, name) ? all[name] : undefined;
    if (!flag) throw new UsageError(`${command}: unknown flag ${token.rawName}${suggest(name, Object.keys(all))}`);
    if (given.has(name)) throw new UsageError(`${command}: --${name} is given twice, want it once`);
    if (flag.value && token.value === undefined)
      throw new UsageError(`${command}: --${name} has no value, want --${name} ${flag.value}`);
    if (!flag.value && token.value !== undefined)
      throw new UsageError(`${command}: --${name} is ${JSON.stringify(token.value)}, want no value`);
    given.set(name, flag.value ? token.value! : true);
  }
  return given;
}

function suggest(name: string, known: readonly string[]): string {
  const near = nearest(name, known);
  return near.length ? `, did you mean ${near.map((k) => `--${k}`).join(" or ")}?` : "; see --help for all flags";
}

/** Reads typed values of one command's flags, a default for each. */
export class Values {
  constructor(
    readonly command: string,
    readonly given: Given,
    readonly defaults: Readonly<Record<string, string | number>>,
  ) {}

  has(name: string): boolean {
    return this.given.has(name);
  }

  string(name: string): string | undefined {
    const value = this.given.get(name) ?? this.defaults[name];
    return value === undefined ? undefined : String(value);
  }

  oneOf<T extends string>(name: string, allowed: readonly T[]): T {
    const value = this.string(name);
    if (allowed.includes(value as T)) return value as T;
    throw this.bad(name, `one of ${allowed.join(", ")}`);
  }

  integer(name: string, min: number, max = 2 ** 53 - 1): number {
    const value = this.number(name, min, max, "an integer");
    if (!Number.isInteger(value)) throw this.bad(name, range("an integer", min, max));
    return value;
  }

  number(name: string, min: number, max = Number.MAX_VALUE, kind = "a number"): number {
    const text = this.string(name);
    const value = text === undefined || text.trim() === "" ? Number.NaN : Number(text);
    if (!(Number.isFinite(value) && value >= min && value <= max)) throw this.bad(name, range(kind, min, max));
    return value;
  }

  bad(name: string, want: string): UsageError {
    return new UsageError(`${this.command}: --${name} is ${this.string(name) ?? "missing"}, want ${want}`);
  }
}

function range(kind: string, min: number, max: number): string {
  return max >= 2 ** 53 - 1 ? `${kind} at least ${min}` : `${kind} from ${min} to ${max}`;
}

/** Breaks a text at spaces into lines of at most 80 columns, all but the first indented. */
function wrap(text: string, indent = 0): string {
  let line = "";
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    if (line && indent + line.length + 1 + word.length > 80) {
      lines.push(line);
      line = word;
    } else line = line ? `${line} ${word}` : word;
  }
  return [...lines, line].join(`\n${" ".repeat(indent)}`);
}

/** The help text of a command, for a terminal of 80 columns. */
export function helpText(usage: string, about: string, flags: Flags, notes = ""): string {
  const lines = Object.entries({ ...flags, help: { help: "show this help" } as Flag }).map(([name, flag]) => {
    const left = `  --${name}${flag.value ? ` ${flag.value}` : ""}`;
    return `${left.padEnd(28)}${left.length > 26 ? `\n${" ".repeat(28)}` : ""}${wrap(flag.help, 28)}`;
  });
  const paragraphs = notes.split("\n").map((note) => wrap(note));
  return `usage: ${usage}\n\n${wrap(about)}\n\n${lines.join("\n")}\n${notes ? `\n${paragraphs.join("\n")}\n` : ""}`;
}
