import { HeedError } from "../core/errors.ts";

/** Throws `USAGE` with near names unless `name` is one of `names`. */
export function checkName(op: string, name: string, names: Iterable<string>): void {
  const all = [...names];
  if (all.includes(name)) return;
  const near = nearest(name, all, 4)
    .map((n) => `"${n}"`)
    .join(", ");
  throw new HeedError("USAGE", `${op}: no value is called "${name}"; near it are ${near}. model.values() lists all.`);
}

/** The `count` candidates that take the fewest changed letters to become `name`. */
function nearest(name: string, candidates: readonly string[], count: number): string[] {
  const ranked = candidates.map((candidate) => ({ candidate, distance: editDistance(name, candidate) }));
  ranked.sort((a, b) => a.distance - b.distance);
  return ranked.slice(0, count).map(({ candidate }) => candidate);
}

/** Insertions, deletions and replacements that turn `a` into `b` (Levenshtein). */
function editDistance(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (above[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(replaced, (above[j] as number) + 1, (row[j - 1] as number) + 1));
    }
    above = row;
  }
  return above[b.length] as number;
}
