/** The known names nearest to one that is not, for messages: keys of options, flags, commands. */

/** Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}

/** Whether one is the other with letters left out ("lr", "learningrate"). */
function abbreviates(a: string, b: string): boolean {
  const [short, long] = a.length < b.length ? [a, b] : [b, a];
  if (short.length < 2 || short[0] !== long[0]) return false;
  let found = 0;
  for (const letter of long) if (letter === short[found]) found++;
  return found === short.length;
}

// "weight_decay" and "weight-decay" are weightDecay.
const letters = (name: string) => name.toLowerCase().replaceAll(/[-_]/g, "");

/** At most two of `known`, nearest first: those a few letters off, or else one that is an abbreviation. */
export function nearest(name: string, known: readonly string[]): string[] {
  const given = letters(name.slice(0, 100));
  const ranked = known.map((k) => [distance(given, letters(k)), k] as const).sort((a, b) => a[0] - b[0]);
  const near = ranked.filter(([d, k]) => d < k.length && d <= Math.max(2, Math.floor(k.length / 3))).slice(0, 2);
  const short = ranked.find(([, k]) => abbreviates(given, letters(k)));
  return (near.length || !short ? near : [short]).map(([, k]) => k);
}
