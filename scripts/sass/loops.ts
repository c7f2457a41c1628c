/** Loops of a kernel, from where its instructions lead: addresses do not do, for slow paths stand behind a kernel's end. */
import { access, type Code, type Instruction } from "./code.ts";

/** Indexes of its instructions, in the order of the listing. */
export type Loop = readonly number[];

/** Where each instruction may lead; undefined: never reached (subroutines of a kernel). */
function successors(code: Code): (readonly number[] | undefined)[] {
  const found: (number[] | undefined)[] = new Array(code.instructions.length);
  // Where the threads of each register's BSSY meet belongs to the way that led here; the first way there speaks for all.
  const open: { at: number; meetings: Readonly<Record<string, string>> }[] = [{ at: 0, meetings: {} }];
  while (open.length > 0) {
    const { at, meetings } = open.pop()!;
    const instruction = code.instructions[at];
    if (!instruction || found[at]) continue;
    const { jumps, falls, meeting, meets } = instruction;
    const labels = [...jumps];
    if (meets !== undefined && meetings[meets] !== undefined) labels.push(meetings[meets]);
    const next = labels.map((label) => code.labels.get(label)).filter((index) => index !== undefined);
    if (falls && at + 1 < code.instructions.length) next.push(at + 1);
    found[at] = next;
    const after = meeting ? { ...meetings, [meeting.register]: meeting.label } : meetings;
    for (const index of next) open.push({ at: index, meetings: after });
  }
  return found;
}

/** The loops in the order of their first instruction, outer before inner. Two that begin at one place are one. */
export function loopsOf(code: Code): Loop[] {
  const next = successors(code);
  const before: number[][] = code.instructions.map(() => []);
  for (const [at, targets] of next.entries()) for (const target of targets ?? []) before[target]!.push(at);

  // A jump to an instruction that the way here went through closes a loop.
  const bodies = new Map<number, Set<number>>();
  const state = new Uint8Array(code.instructions.length); // 1: on the way, 2: done
  const way: { at: number; taken: number }[] = code.instructions.length > 0 ? [{ at: 0, taken: 0 }] : [];
  state[0] = 1;
  while (way.length > 0) {
    const top = way.at(-1)!;
    const target = next[top.at]?.[top.taken++];
    if (target === undefined) {
      state[top.at] = 2;
      way.pop();
    } else if (state[target] === 0) {
      state[target] = 1;
      way.push({ at: target, taken: 0 });
    } else if (state[target] === 1) {
      const body = bodies.get(target) ?? new Set([target]);
      bodies.set(target, body);
      const open = [top.at];
      while (open.length > 0) {
        const at = open.pop()!;
        if (body.has(at)) continue;
        body.add(at);
        open.push(...before[at]!);
      }
    }
  }
  return [...bodies.values()]
    .map((body) => [...body].sort((a, b) => a - b))
    .sort((a, b) => a[0]! - b[0]! || b.length - a.length);
}

/** A loop without the loops in it. */
export function ownPart(loop: Loop, all: readonly Loop[]): Loop {
  const inner = new Set(
    all.filter((other) => other !== loop && other.length < loop.length && loop.includes(other[0]!)).flat(),
  );
  return loop.filter((at) => !inner.has(at));
}

/**
 * The most global loads that are on their way at once, none of them used yet, in rounds of a loop that go through it as it is
 * listed. SASS only: PTX says nothing of when.
 */
export function loadsInFlight(code: Code, loop: Loop): { loads: number; bytes: number } {
  let pending: { first: number; last: number; bytes: number }[] = [];
  let most = { loads: 0, bytes: 0 };
  const rounds = [...loop, ...loop].map((at) => code.instructions[at] as Instruction);
  for (const instruction of rounds) {
    const used = [...instruction.operands.matchAll(/\bR(\d+)\b/g)].map((match) => Number(match[1]));
    pending = pending.filter(({ first, last }) => !used.some((register) => register >= first && register <= last));
    const what = access(instruction);
    if (what?.what !== "load" || what.space !== "global") continue;
    const first = used[0] ?? 0;
    pending.push({ first, last: first + Math.max(1, what.bytes / 4) - 1, bytes: what.bytes });
    const bytes = pending.reduce((sum, load) => sum + load.bytes, 0);
    if (bytes > most.bytes) most = { loads: pending.length, bytes };
  }
  return most;
}
