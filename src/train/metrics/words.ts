// By code, because control characters in an expression look like a mistake.
const SEPARATORS = [0x1c, 0x1d, 0x1e, 0x1f].map((code) => String.fromCharCode(code)).join("");

/** Spaces as Python's `str.split` sees them, by which the reference implementations count words: the four separators too. */
const SPACE = `[\\p{White_Space}${SEPARATORS}]`;
const SPACES = new RegExp(`${SPACE}+`, "u");
const OUTER_SPACES = new RegExp(`^${SPACE}+|${SPACE}+$`, "gu");

/** The words of a text between spaces. */
export function splitWords(text: string): string[] {
  return text.split(SPACES).filter((word) => word !== "");
}

/** A text without the spaces round it; unlike `trim`, a byte order mark is none. */
export function trimSpaces(text: string): string {
  return text.replace(OUTER_SPACES, "");
}

/** How often each run of `n` items occurs. */
export function countRuns(items: readonly string[], n: number, glue: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + n <= items.length; i++) {
    const run = items.slice(i, i + n).join(glue);
    counts.set(run, (counts.get(run) ?? 0) + 1);
  }
  return counts;
}

/** Sum of a map's counts. */
export function total(counts: ReadonlyMap<string, number>): number {
  let sum = 0;
  for (const count of counts.values()) sum += count;
  return sum;
}

/** Of the runs of one text, how many the other has too, each at most as often. */
export function countShared(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): number {
  let shared = 0;
  for (const [run, count] of a) shared += Math.min(count, b.get(run) ?? 0);
  return shared;
}
