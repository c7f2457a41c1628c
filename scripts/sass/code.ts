/** Reads nvdisasm's listing of a cubin (`nvdisasm -c`) and, where there is no nvdisasm, nvcc's PTX, into one form. */

export interface Instruction {
  /** "LDG.E.128", "st.global.v4.b32" */
  op: string;
  operands: string;
  /** Labels that may come next. */
  jumps: readonly string[];
  /** What follows in the listing may come next, too. */
  falls: boolean;
  /** SASS: threads that BSSY sends apart meet at its label, to which a BSYNC of the same register goes. */
  meeting?: { register: string; label: string };
  meets?: string;
}

export interface Code {
  /** Mangled. */
  name: string;
  instructions: Instruction[];
  /** To the index of the instruction behind the label. */
  labels: Map<string, number>;
}

export interface Access {
  what: "load" | "store" | "copy";
  /** A generic address counts as global. */
  space: "global" | "shared" | "local";
  bytes: number;
}

function sassInstruction(text: string): Instruction {
  const [, guard, op, operands] = /^(@\S+\s+)?([\w.]+)\s*(.*)$/.exec(text) ?? [];
  if (!op) throw new Error(`cannot read the instruction ${JSON.stringify(text)}`);
  const labels = operands!.match(/\.L_x_\d+/g) ?? [];
  const instruction: Instruction = { op, operands: operands!, jumps: [], falls: true };
  const base = op.split(".", 1)[0];
  if (base === "BSSY") instruction.meeting = { register: operands!.split(",", 1)[0]!, label: labels[0]! };
  else if (base === "BSYNC") {
    instruction.meets = operands!.trim();
    instruction.falls = guard !== undefined;
  } else if (base === "BRA" || base === "BRX" || base === "JMP") {
    instruction.jumps = labels;
    // A condition may stand before it, or between it and its label: `BRA P0, ...`, `BRA.DIV UR4, ...`.
    instruction.falls = guard !== undefined || /^BRA\S* !?[UP~]/.test(`${op} ${operands}`);
  } else if (base === "EXIT" || base === "RET" || base === "KILL") instruction.falls = guard !== undefined;
  return instruction;
}

/** The kernels of a cubin. */
export function parseSass(text: string): Code[] {
  const codes: Code[] = [];
  let code: Code | undefined;
  for (const line of text.split("\n")) {
    const section = /^\s*\.section\s+(\S+?),/.exec(line)?.[1];
    if (section !== undefined) {
      code = section.startsWith(".text.") ? { name: section.slice(6), instructions: [], labels: new Map() } : undefined;
      if (code) codes.push(code);
    }
    if (!code) continue;
    const label = /^(\.L_x_\d+):/.exec(line)?.[1];
    if (label) code.labels.set(label, code.instructions.length);
    const instruction = /^\s*\/\*[0-9a-f]{4,}\*\/\s+(.*?)\s*;/.exec(line)?.[1];
    if (instruction) code.instructions.push(sassInstruction(instruction));
  }
  return codes;
}

function ptxInstruction(text: string): Instruction | undefined {
  const [, guard, op, operands] = /^(@\S+\s+)?([a-z][\w.:]*)\s*(.*)$/s.exec(text) ?? [];
  if (!op) return undefined;
  const base = op.split(".", 1)[0];
  const ends = base === "ret" || base === "exit" || base === "trap" || base === "bra" || base === "brx";
  return {
    op,
    operands: operands!,
    jumps: base === "bra" || base === "brx" ? (operands!.match(/\$L\w+/g) ?? []) : [],
    falls: !ends || guard !== undefined,
  };
}

/** The kernels of a PTX file. What ptxas makes of it (spills, divisions by a call) is not in it. */
export function parsePtx(text: string): Code[] {
  return text
    .replaceAll(/\/\/.*$/gm, "")
    .split(/^.*\.entry\s+/m)
    .slice(1)
    .map((part) => {
      const code: Code = { name: /^\w+/.exec(part)![0], instructions: [], labels: new Map() };
      for (const statement of part.slice(part.indexOf("{") + 1).split(/;|^(?=\s*\$L\w+:)|(?<=^\s*\$L\w+:)/m)) {
        const trimmed = statement.replaceAll(/^[\s{}]+|[\s{}]+$/g, "");
        const label = /^(\$L\w+):$/.exec(trimmed)?.[1];
        if (label) code.labels.set(label, code.instructions.length);
        // Behind a kernel there may be a function of its own.
        if (/^\.(visible|weak|func)\b/.test(trimmed)) break;
        const instruction = label ? undefined : ptxInstruction(statement.replace(/^[\s{}]+/, "").trimEnd());
        if (instruction) code.instructions.push(instruction);
      }
      return code;
    });
}

const sassBytes: Readonly<Record<string, number>> = { U8: 1, S8: 1, U16: 2, S16: 2, 64: 8, 128: 16 };
const sassSpaces: Readonly<Record<string, Omit<Access, "bytes">>> = {
  LDG: { what: "load", space: "global" },
  STG: { what: "store", space: "global" },
  LD: { what: "load", space: "global" },
  ST: { what: "store", space: "global" },
  LDGSTS: { what: "copy", space: "global" },
  LDS: { what: "load", space: "shared" },
  LDSM: { what: "load", space: "shared" },
  STS: { what: "store", space: "shared" },
  LDL: { what: "load", space: "local" },
  STL: { what: "store", space: "local" },
};

/** What an instruction does to memory, if anything. Atomics, constants and parameters are left out. */
export function access({ op, operands }: Instruction): Access | undefined {
  const parts = op.split(".");
  const sass = sassSpaces[parts[0]!];
  if (sass) return { ...sass, bytes: parts.map((part) => sassBytes[part]).find((bytes) => bytes !== undefined) ?? 4 };
  if (/^cp\.async\.c[ag]\b/.test(op))
    return { what: "copy", space: "global", bytes: Number(/\],\s*(\d+)/.exec(operands)![1]) };
  if (op.startsWith("ldmatrix")) return { what: "load", space: "shared", bytes: 16 };
  if ((parts[0] !== "ld" && parts[0] !== "st") || parts.includes("param") || parts.includes("const")) return undefined;
  const space = parts.includes("shared") ? "shared" : parts.includes("local") ? "local" : "global";
  const vector = Number(/\.v(\d)\b/.exec(op)?.[1] ?? 1);
  return {
    what: parts[0] === "ld" ? "load" : "store",
    space,
    bytes: (vector * Number(/\d+$/.exec(parts.at(-1)!)![0])) / 8,
  };
}

/** A call of code that is not inlined: in SASS also the slow path of a division or a square root. */
export const isCall = ({ op }: Instruction): boolean => /^(CALL|call)\b/.test(op);
/** A product on tensor cores. */
export const isMatrix = ({ op }: Instruction): boolean => /^([HIDQ]G?MMA|w?g?mma)\b/.test(op);
export const isBarrier = ({ op }: Instruction): boolean => /^(BAR|bar|barrier)\b/.test(op);
/** Exponentials, reciprocals, roots: the units that are a quarter or less of the others. */
export const isSpecial = ({ op }: Instruction): boolean => /^(MUFU|ex2|lg2|rcp|rsqrt|sqrt|sin|cos|div)\b/.test(op);
