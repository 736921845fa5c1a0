import { checkParallel } from "./bleu.ts";
import { countRuns, countShared, splitWords, total } from "./words.ts";

const ORDERS = 6;
const BETA = 2;

/** Runs of one order: of the hypothesis, of the reference, and of both. */
interface Overlap {
  readonly hypothesis: number;
  readonly reference: number;
  readonly shared: number;
}

/**
 * Corpus chrF2 (Popović 2015), with the figures of sacreBLEU's chrF: F of runs of 1 to 6 characters, recall counting twice, spaces
 * left out, case kept; of several references the best per sentence. From 0 to 100. Throws `USAGE` where lengths differ.
 */
export function chrf(hypotheses: readonly string[], references: readonly (readonly string[])[]): number {
  checkParallel("chrF", hypotheses, references);
  let sums: readonly Overlap[] = Array.from({ length: ORDERS }, () => ({ hypothesis: 0, reference: 0, shared: 0 }));
  hypotheses.forEach((hypothesis, i) => {
    const own = characterRuns(hypothesis);
    let best: { readonly score: number; readonly overlaps: readonly Overlap[] } | undefined;
    for (const list of references) {
      const overlaps = overlap(own, characterRuns(list[i] ?? ""));
      const score = fScore(overlaps);
      if (!best || score > best.score) best = { score, overlaps };
    }
    sums = sums.map((sum, n) => add(sum, best?.overlaps[n]));
  });
  return fScore(sums);
}

function characterRuns(text: string): Map<string, number>[] {
  const characters = [...splitWords(text).join("")];
  return Array.from({ length: ORDERS }, (_, n) => countRuns(characters, n + 1, ""));
}

function overlap(hypothesis: readonly Map<string, number>[], reference: readonly Map<string, number>[]): Overlap[] {
  return hypothesis.map((own, n) => {
    const other = reference[n] ?? new Map<string, number>();
    // An order that the reference is too short for is not held against the hypothesis.
    return { hypothesis: other.size > 0 ? total(own) : 0, reference: total(other), shared: countShared(own, other) };
  });
}

function add(a: Overlap, b: Overlap | undefined): Overlap {
  if (!b) return a;
  return {
    hypothesis: a.hypothesis + b.hypothesis,
    reference: a.reference + b.reference,
    shared: a.shared + b.shared,
  };
}

/** F of the mean precision and recall over the orders that both sides have. */
function fScore(overlaps: readonly Overlap[]): number {
  const used = overlaps.filter(({ hypothesis, reference }) => hypothesis > 0 && reference > 0);
  if (used.length === 0) return 0;
  const precision = used.reduce((sum, o) => sum + o.shared / o.hypothesis, 0) / used.length;
  const recall = used.reduce((sum, o) => sum + o.shared / o.reference, 0) / used.length;
  if (precision + recall === 0) return 0;
  return (100 * (1 + BETA ** 2) * precision * recall) / (BETA ** 2 * precision + recall);
}
