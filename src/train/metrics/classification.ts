import { checkParallel } from "./bleu.ts";

/** Precision, recall and their harmonic mean, each from 0 to 1 (0 where it is not defined), and how many examples they are of. */
export interface ClassScores {
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
  /** Examples that are of the class. */
  readonly support: number;
}

/** How well classes were predicted. */
export interface ClassificationReport {
  readonly accuracy: number;
  /** By class, in the order of their names. */
  readonly classes: ReadonlyMap<string, ClassScores>;
  /** Of all decisions together. */
  readonly micro: ClassScores;
  /** Mean over the classes. */
  readonly macro: ClassScores;
  /** Mean over the classes, by their support. */
  readonly weighted: ClassScores;
}

/** Counts of one class. */
interface Counts {
  hits: number;
  predicted: number;
  actual: number;
}

/**
 * Accuracy, and precision, recall, F1 and support per class, micro, macro and weighted. Classes are those that occur on either side, or
 * `labels`, which may leave some out: predictions of others then still count as wrong. Throws `USAGE` where lengths differ.
 */
export function classificationReport(
  predictions: readonly string[],
  references: readonly string[],
  labels?: readonly string[],
): ClassificationReport {
  checkParallel("classification", predictions, [references]);
  const names = labels ?? [...new Set([...predictions, ...references])].sort(byName);
  const counts = new Map<string, Counts>(names.map((name) => [name, { hits: 0, predicted: 0, actual: 0 }]));
  let right = 0;
  predictions.forEach((prediction, i) => {
    const reference = references[i] ?? "";
    const [own, other] = [counts.get(prediction), counts.get(reference)];
    if (own) own.predicted++;
    if (other) other.actual++;
    if (prediction !== reference) return;
    right++;
    if (own) own.hits++;
  });
  const classes = new Map(Array.from(counts, ([name, count]) => [name, scoresOf(count)]));
  const all = [...classes.values()];
  const sums = [...counts.values()].reduce(
    (sum, { hits, predicted, actual }) => ({
      hits: sum.hits + hits,
      predicted: sum.predicted + predicted,
      actual: sum.actual + actual,
    }),
    { hits: 0, predicted: 0, actual: 0 },
  );
  return {
    accuracy: right / predictions.length,
    classes,
    micro: scoresOf(sums),
    macro: mean(all, () => 1, sums.actual),
    weighted: mean(all, ({ support }) => support, sums.actual),
  };
}

/** Numbers by size, other names by code unit. */
function byName(a: string, b: string): number {
  const [m, n] = [Number(a), Number(b)];
  if (a !== "" && b !== "" && Number.isFinite(m) && Number.isFinite(n) && m !== n) return m - n;
  return a < b ? -1 : a > b ? 1 : 0;
}

function scoresOf({ hits, predicted, actual }: Counts): ClassScores {
  const precision = predicted === 0 ? 0 : hits / predicted;
  const recall = actual === 0 ? 0 : hits / actual;
  const both = predicted + actual;
  return { precision, recall, f1: both === 0 ? 0 : (2 * hits) / both, support: actual };
}

function mean(all: readonly ClassScores[], weight: (scores: ClassScores) => number, support: number): ClassScores {
  const weights = all.reduce((sum, scores) => sum + weight(scores), 0);
  const of = (value: (scores: ClassScores) => number): number =>
    weights === 0 ? 0 : all.reduce((sum, scores) => sum + weight(scores) * value(scores), 0) / weights;
  return { precision: of((s) => s.precision), recall: of((s) => s.recall), f1: of((s) => s.f1), support };
}
