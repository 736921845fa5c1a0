import type { Device } from "../gpu/device.ts";
import { openCheckpoint } from "../formats/checkpoint.ts";
import { folderSource } from "../sources/folder_node.ts";
import { EncoderModel } from "../tasks/encoder_model.ts";
import { Seq2SeqModel } from "../tasks/seq2seq_model.ts";
import { maskAndPair, NEXT_SENTENCE_LABELS, pairSentences } from "../train/denoise_items.ts";
import type { Examples } from "../train/examples.ts";
import type { TokenItem, VaryItem } from "../train/item_batches.ts";
import { uniformGenerator } from "../train/initialise.ts";
import { IGNORED_TARGET } from "../train/losses.ts";
import { bleu } from "../train/metrics/bleu.ts";
import { type ClassificationReport, classificationReport } from "../train/metrics/classification.ts";
import { hasUnanswerable, squadScores } from "../train/metrics/squad.ts";
import { maskWords } from "../train/task_items.ts";
import { stemOf, type Task } from "../train/tasks.ts";

/** What is scored: the folder that was written, on what was held out. */
export interface ScoreOptions {
  readonly task: Task;
  readonly folder: string;
  readonly held: Examples;
  readonly heldLoss: number;
  readonly length: number;
  readonly maskRate?: number | undefined;
  readonly signal: AbortSignal;
}

/** Names of scores and their values. */
export type Scores = Readonly<Record<string, unknown>>;

/**
 * Scores what was tuned as it will be used: loaded from its folder. Accuracy and F1 for classes and labels, exact match and F1 for
 * answers, BLEU for translations, accuracy of masked words and next sentences over at most {@link MOST_SCORED} examples, and perplexity for what predicts tokens.
 */
export async function scoreFolder(device: Device, options: ScoreOptions): Promise<Scores> {
  const { task, folder, held, heldLoss, length, signal } = options;
  if (task === "masked-lm" || task === "pretraining") return scoreMasked(device, options);
  if (task === "translation") {
    const model = await Seq2SeqModel.load(device, await folderSource(folder), { signal });
    try {
      const results = await model.translate(
        held.pairs.map(({ source }) => source),
        { signal },
      );
      const references = held.pairs.map(({ target }) => target);
      const { score } = bleu(
        results.map(({ text }) => text),
        [references],
      );
      return { bleu: score, perplexity: Math.exp(heldLoss) };
    } finally {
      await model.dispose();
    }
  }
  if (!ENCODER_TASKS.has(task)) return { perplexity: Math.exp(heldLoss) };
  const model = await EncoderModel.load(device, await folderSource(folder), { signal });
  try {
    if (task === "next-sentence") return await scoreNextSentences(model, { held, length, signal });
    if (task === "labels") return await scoreLabels(model, held, signal);
    if (task === "answer") {
      const noAnswer = hasUnanswerable(held.questions);
      const maxTokens = Math.min(length, model.contextLength);
      const answers = await model.answer(held.questions, { maxTokens, noAnswer, signal });
      const right = held.questions.map((question) => question.answers.map(({ text }) => text));
      const texts = answers.map(({ text }) => text);
      return { ...squadScores(texts, right) };
    }
    const told = await model.classify(
      held.classes.map(({ text }) => text),
      { truncate: true, signal },
    );
    return reported(
      classificationReport(
        told.map(({ label }) => label),
        held.classes.map(({ label }) => label),
      ),
    );
  } finally {
    await model.dispose();
  }
}

const ENCODER_TASKS: ReadonlySet<Task> = new Set(["classification", "labels", "answer", "next-sentence"]);

/** Examples that are masked or paired for a score. */
const MOST_SCORED = 500;

/** Of pairs that are drawn as in training, the same ones each time. */
async function scoreNextSentences(
  model: EncoderModel,
  { held, length, signal }: Pick<ScoreOptions, "held" | "length" | "signal">,
): Promise<Scores> {
  const { tokenizer } = model;
  if (!tokenizer) return {};
  const items = varied(held.items, pairSentences(tokenizer, length));
  const accuracy = await nextSentenceAccuracy(
    model,
    items.map((item) => ({ ...item, follows: item.targets[0] ?? IGNORED_TARGET })),
    signal,
  );
  return { accuracy };
}

/** Of words that are masked as in training, the same ones each time, and of the next sentence where that was trained too. */
async function scoreMasked(
  device: Device,
  { task, folder, held, heldLoss, length, maskRate, signal }: ScoreOptions,
): Promise<Scores> {
  const checkpoint = await openCheckpoint(await folderSource(folder), { signal });
  const words = await EncoderModel.load(device, checkpoint, { signal });
  const joint = task === "pretraining";
  let items: readonly TokenItem[] = [];
  let [right, count] = [0, 0];
  try {
    const { tokenizer } = words;
    if (!tokenizer) return joint ? {} : { perplexity: Math.exp(heldLoss) };
    items = varied(held.items, joint ? maskAndPair(tokenizer, length, maskRate) : maskWords(tokenizer, maskRate));
    for (const item of items) {
      const rows = await logitsOf<readonly Float32Array[]>(words, item, signal);
      item.targets.forEach((target, t) => {
        if (target === IGNORED_TARGET) return;
        count++;
        if (highest(rows[t] ?? new Float32Array()) === target) right++;
      });
    }
  } finally {
    await words.dispose();
  }
  const maskedAccuracy = right / count;
  if (!joint) return { maskedAccuracy, perplexity: Math.exp(heldLoss) };
  const config = {
    ...{ ...checkpoint.config, architectures: [`${stemOf(checkpoint.config)}ForNextSentencePrediction`] },
    id2label: { ...NEXT_SENTENCE_LABELS },
  };
  const next = await EncoderModel.load(device, { ...checkpoint, config }, { signal });
  try {
    return { maskedAccuracy, nextSentenceAccuracy: await nextSentenceAccuracy(next, items, signal) };
  } finally {
    await next.dispose();
  }
}

/** Items as they are drawn, the same ones each time; of many, some from all over. */
function varied(items: readonly TokenItem[], vary: VaryItem): TokenItem[] {
  const uniform = uniformGenerator(1);
  const every = Math.max(1, Math.ceil(items.length / MOST_SCORED));
  return items.filter((_, i) => i % every === 0).map((item) => vary(item, uniform, items));
}

async function nextSentenceAccuracy(
  model: EncoderModel,
  items: readonly TokenItem[],
  signal: AbortSignal,
): Promise<number> {
  let right = 0;
  for (const item of items) if (highest(await logitsOf<Float32Array>(model, item, signal)) === item.follows) right++;
  return right / items.length;
}

async function logitsOf<T>(model: EncoderModel, { ids, segments }: TokenItem, signal: AbortSignal): Promise<T> {
  const typeIds = model.facts.segments > 1 ? segments : undefined;
  return ((await model.logits(ids, { typeIds, signal })) as { logits: unknown }).logits as T;
}

function highest(logits: Float32Array): number {
  return logits.reduce((best, value, i) => (value > (logits[best] ?? Number.NEGATIVE_INFINITY) ? i : best), 0);
}

/** Of the first token of each word. */
async function scoreLabels(model: EncoderModel, { items }: Examples, signal: AbortSignal): Promise<Scores> {
  const [told, right]: [string[], string[]] = [[], []];
  for (const item of items) {
    const logits = await logitsOf<readonly Float32Array[]>(model, item, signal);
    item.targets.forEach((target, t) => {
      if (target === IGNORED_TARGET) return;
      told.push(model.labels[highest(logits[t] ?? new Float32Array())] ?? "");
      right.push(model.labels[target] ?? "");
    });
  }
  return reported(classificationReport(told, right));
}

function reported({ accuracy, classes, micro, macro, weighted }: ClassificationReport): Scores {
  return { accuracy, f1: macro.f1, classes: Object.fromEntries(classes), micro, macro, weighted };
}

/** Scores at the end of a line that says how a run ended. */
export function scoresLine(scores: Scores = {}): string {
  const numbers = Object.entries(scores).filter((entry): entry is [string, number] => typeof entry[1] === "number");
  return numbers.map(([name, value]) => `, ${name} ${value.toFixed(4)}`).join("");
}
