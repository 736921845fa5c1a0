import { HeedError } from "../core/errors.ts";

/** A kind of model with the types that Heed runs, and how `architectures` of a config.json shows it. */
interface KnownTypes {
  readonly modelTypes: readonly string[];
  readonly architecture: RegExp;
}

/** So many letters may differ, for each three that there are, in names that count as alike. */
const LETTERS_PER_SLIP = 3;

/** Most types that a message names as the nearest. */
const MOST_NEAREST = 4;

/** `UNSUPPORTED` for a config.json of no family: names the nearest types that are supported, then all. */
export function unsupportedArchitecture(
  { model_type: type, architectures }: Readonly<Record<string, unknown>>,
  kinds: readonly KnownTypes[],
): HeedError {
  const all = kinds.flatMap(({ modelTypes }) => modelTypes);
  const architecture = Array.isArray(architectures) ? String(architectures[0] ?? "") : "";
  if (typeof type !== "string") {
    const named = architecture === "" ? "" : ` for ${architecture}`;
    return new HeedError(
      "UNSUPPORTED",
      `model: config.json must have a model_type${named}; got ${JSON.stringify(type ?? null)}. Add it; Heed runs ${all.join(", ")}.`,
    );
  }
  const alike = nearestTypes(type, all);
  // Where no name is alike, models of its kind are the nearest there is.
  const near =
    alike.length > 0 ? alike : (kinds.find((kind) => kind.architecture.test(architecture))?.modelTypes ?? []);
  const nearest = near.length > 0 ? ` The nearest that are: ${near.join(", ")}.` : "";
  return new HeedError(
    "UNSUPPORTED",
    `model: the architecture ${JSON.stringify(type)} (model_type in config.json) is not supported.${nearest} Take a checkpoint of one that is; Heed runs ${all.join(", ")}.`,
  );
}

/** The supported types whose names are most like `type`, the likest first: one has the other's letters, or few differ. */
function nearestTypes(type: string, known: readonly string[]): string[] {
  const plain = (name: string) => name.toLowerCase().replace(/[^a-z0-9]/g, "");
  const wanted = plain(type);
  // "llama" of llama4; of a name such as t5 the letter alone would say nothing.
  const stem = (name: string) => /^[a-z]{3,}/.exec(name)?.[0] ?? name;
  const far = (name: string) => {
    const own = plain(name);
    const slips = editDistance(wanted, own);
    const isRelated = wanted.includes(stem(own)) || own.startsWith(stem(wanted));
    const isAlike = slips * LETTERS_PER_SLIP <= Math.max(wanted.length, own.length);
    return wanted !== "" && (isRelated || isAlike) ? slips : Number.POSITIVE_INFINITY;
  };
  return known
    .map((name) => ({ name, slips: far(name) }))
    .filter(({ slips }) => Number.isFinite(slips))
    .sort((a, b) => a.slips - b.slips)
    .slice(0, MOST_NEAREST)
    .map(({ name }) => name);
}

/** Letters to insert, drop or change to make one text of the other (Levenshtein). */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, i) => i);
  for (let i = 0; i < from.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < to.length; j++) {
      const change = (row[j] ?? 0) + (from[i] === to[j] ? 0 : 1);
      next.push(Math.min(change, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
