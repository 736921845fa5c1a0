import { HeedError } from "../../core/errors.ts";
import { countRuns, countShared, splitWords, trimSpaces } from "./words.ts";

/** How BLEU divides text into words: `13a` for what is written with spaces, `zh` for Chinese, `char`, or `none` for spaces alone. */
export const BLEU_TOKENIZERS = ["13a", "zh", "char", "none"] as const;

/** One of {@link BLEU_TOKENIZERS}. */
export type BleuTokenizer = (typeof BLEU_TOKENIZERS)[number];

/** BLEU with what it is made of. */
export interface Bleu {
  /** From 0 to 100. */
  readonly score: number;
  /** Per cent of the runs of 1, 2, 3 and 4 words that a reference has. */
  readonly precisions: readonly number[];
  readonly brevityPenalty: number;
  /** Words of the hypotheses, and of the references nearest in length. */
  readonly hypothesisLength: number;
  readonly referenceLength: number;
}

const ORDERS = 4;

/**
 * Corpus BLEU (Papineni et al. 2002, §2), with the figures of sacreBLEU: its tokenizers, orders 1 to 4, exponential smoothing of orders
 * without a match, case kept. `references` has one list per reference translation, each as long as `hypotheses`. Throws `USAGE` where
 * it is not.
 */
export function bleu(
  hypotheses: readonly string[],
  references: readonly (readonly string[])[],
  options: { readonly tokenize?: BleuTokenizer } = {},
): Bleu {
  checkParallel("BLEU", hypotheses, references);
  const tokenize = TOKENIZERS[options.tokenize ?? "13a"];
  const correct = new Array<number>(ORDERS).fill(0);
  const totals = new Array<number>(ORDERS).fill(0);
  let [hypothesisLength, referenceLength] = [0, 0];
  hypotheses.forEach((hypothesis, i) => {
    const words = tokenize(trimSpaces(hypothesis));
    const others = references.map((list) => tokenize(trimSpaces(list[i] ?? "")));
    hypothesisLength += words.length;
    referenceLength += nearestLength(words.length, others);
    for (let n = 1; n <= ORDERS; n++) {
      const most = mergeLargest(others.map((other) => countRuns(other, n, " ")));
      correct[n - 1] = (correct[n - 1] ?? 0) + countShared(countRuns(words, n, " "), most);
      totals[n - 1] = (totals[n - 1] ?? 0) + Math.max(0, words.length - n + 1);
    }
  });
  return scoreOf(correct, totals, hypothesisLength, referenceLength);
}

function scoreOf(
  correct: readonly number[],
  totals: readonly number[],
  hypothesisLength: number,
  referenceLength: number,
): Bleu {
  const isShort = hypothesisLength < referenceLength;
  const brevityPenalty = !isShort ? 1 : hypothesisLength > 0 ? Math.exp(1 - referenceLength / hypothesisLength) : 0;
  const precisions = new Array<number>(ORDERS).fill(0);
  const lengths = { brevityPenalty, hypothesisLength, referenceLength };
  if (correct.every((count) => count === 0)) return { score: 0, precisions, ...lengths };
  // Each order without a match counts as half of the one before it (Chen and Cherry 2014, method 3).
  let smoothing = 1;
  for (let n = 0; n < ORDERS; n++) {
    const [hits = 0, all = 0] = [correct[n], totals[n]];
    if (all === 0) break;
    if (hits === 0) smoothing *= 2;
    precisions[n] = hits === 0 ? 100 / (smoothing * all) : (100 * hits) / all;
  }
  const logSum = precisions.reduce((sum, precision) => sum + Math.log(precision), 0);
  return { score: brevityPenalty * Math.exp(logSum / ORDERS), precisions, ...lengths };
}

/** Length of the reference nearest in length, the shorter of two that are equally near. */
function nearestLength(length: number, references: readonly (readonly string[])[]): number {
  let best = Number.POSITIVE_INFINITY;
  for (const { length: other } of references) {
    const [near, nearest] = [Math.abs(other - length), Math.abs(best - length)];
    if (near < nearest || (near === nearest && other < best)) best = other;
  }
  return best;
}

function mergeLargest(counts: readonly Map<string, number>[]): Map<string, number> {
  const [merged = new Map<string, number>(), ...others] = counts;
  for (const other of others) {
    for (const [run, count] of other) merged.set(run, Math.max(count, merged.get(run) ?? 0));
  }
  return merged;
}

/** Throws `USAGE` unless every list of references is as long as the hypotheses, and there are some. */
export function checkParallel(
  metric: string,
  hypotheses: readonly unknown[],
  references: readonly (readonly unknown[])[],
): void {
  if (hypotheses.length > 0 && references.length > 0 && references.every((list) => list.length === hypotheses.length))
    return;
  throw new HeedError(
    "USAGE",
    `${metric}: each list of references must be as long as the predictions, and none empty; got ${hypotheses.length} predictions and ` +
      `${references.map((list) => list.length).join(", ") || "no"} references. Check that the files have as many lines.`,
  );
}

const TOKENIZERS: Readonly<Record<BleuTokenizer, (line: string) => string[]>> = {
  "13a": (line) => splitWords(splitPunctuation(` ${plainText(line)} `)),
  zh: (line) => splitWords(splitPunctuation(separateChinese(line))),
  char: (line) => splitWords([...line].join(" ")),
  none: splitWords,
};

/** mteval-v13a: skip marks and line ends removed, the four entities written out. */
function plainText(line: string): string {
  return line
    .replaceAll("<skipped>", "")
    .replaceAll("-\n", "")
    .replaceAll("\n", " ")
    .replaceAll("&quot;", '"')
    .replaceAll("&amp;", "&")
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">");
}

/** mteval-v13a: spaces round symbols, round periods and commas that are not within a number, and after a number's dash. */
function splitPunctuation(line: string): string {
  return line
    .replace(/([{-~[-` -&(-+:-@/])/gu, " $1 ")
    .replace(/([^0-9])([.,])/gu, "$1 $2 ")
    .replace(/([.,])([^0-9])/gu, " $1 $2")
    .replace(/([0-9])(-)/gu, "$1 $2 ");
}

// What sacreBLEU separates, which is more than Chinese: it writes "\u20000" and "\u2a6d6" for its rarer ideographs, which are the
// characters U+2001 to U+2A6D.
const SEPARATED =
  /[\u2001-\u2a6d\u2e80-\u2fdf\u2ff0-\u303f\u3100-\u312f\u31a0-\u31bf\u31c0-\u31ef\u3200-\u33ff\u3400-\u4db5\u4e00-\u9fbb\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9\ufe10-\ufe1f\ufe30-\ufe4f\uff00-\uffef]/gu;

function separateChinese(line: string): string {
  return line.replace(SEPARATED, " $& ");
}
