import { checkParallel } from "./bleu.ts";
import { countRuns, countShared, splitWords } from "./words.ts";

/** Exact match and F1 in per cent, as SQuAD states them. */
export interface SquadScores {
  readonly exactMatch: number;
  readonly f1: number;
}

/** False for questions that all have an answer, as in SQuAD 1.1: there a model must not choose "none". */
export function hasUnanswerable(questions: readonly { readonly answers: readonly unknown[] }[]): boolean {
  return questions.some(({ answers }) => answers.length === 0);
}

/**
 * Exact match and F1 of answers (Rajpurkar et al. 2016, §6.1; 2018 for "no answer", which is an empty prediction or an empty list of
 * answers): lower case, without punctuation and articles; the best of a question's answers. A question whose prediction is undefined
 * is wrong, also where "no answer" is right. Throws `USAGE` where lengths differ.
 */
export function squadScores(
  predictions: readonly (string | undefined)[],
  answers: readonly (readonly string[])[],
): SquadScores {
  checkParallel("SQuAD", predictions, [answers]);
  let [exact, f1] = [0, 0];
  predictions.forEach((prediction, i) => {
    if (prediction === undefined) return;
    const given = (answers[i] ?? []).filter((answer) => normalizeAnswer(answer) !== "");
    const wanted = given.length > 0 ? given : [""];
    exact += Math.max(...wanted.map((answer) => (normalizeAnswer(answer) === normalizeAnswer(prediction) ? 1 : 0)));
    f1 += Math.max(...wanted.map((answer) => wordF1(prediction, answer)));
  });
  return { exactMatch: (100 * exact) / predictions.length, f1: (100 * f1) / predictions.length };
}

/** Lower case, ASCII punctuation and English articles removed, one space between words. */
function normalizeAnswer(text: string): string {
  const plain = text.toLowerCase().replace(/[!-/:-@[-`{-~]/g, "");
  return splitWords(plain.replace(/(?<![\p{L}\p{N}_])(?:a|an|the)(?![\p{L}\p{N}_])/gu, " ")).join(" ");
}

function wordF1(prediction: string, answer: string): number {
  const [own, other] = [splitWords(normalizeAnswer(prediction)), splitWords(normalizeAnswer(answer))];
  // Without words there is no F: right if neither has any.
  if (own.length === 0 || other.length === 0) return own.length === other.length ? 1 : 0;
  const shared = countShared(countRuns(own, 1, " "), countRuns(other, 1, " "));
  if (shared === 0) return 0;
  const [precision, recall] = [shared / own.length, shared / other.length];
  return (2 * precision * recall) / (precision + recall);
}
