import type { Device } from "../gpu/device.ts";
import { folderSource } from "../sources/folder_node.ts";
import { EncoderModel } from "../tasks/encoder_model.ts";
import { Seq2SeqModel } from "../tasks/seq2seq_model.ts";
import type { FinetuneTask } from "../train/finetune_models.ts";
import { pairSentences } from "../train/denoise_items.ts";
import { uniformGenerator } from "../train/initialise.ts";
import { IGNORED_TARGET } from "../train/losses.ts";
import { bleu } from "../train/metrics/bleu.ts";
import { type ClassificationReport, classificationReport } from "../train/metrics/classification.ts";
import { squadScores } from "../train/metrics/squad.ts";
import type { Examples } from "./finetune_data.ts";

/** What is scored: the folder that was written, on what was held out. */
export interface ScoreOptions {
  readonly task: FinetuneTask;
  readonly folder: string;
  readonly held: Examples;
  readonly heldLoss: number;
  readonly length: number;
  readonly signal: AbortSignal;
}

/** Names of scores and their values. */
export type Scores = Readonly<Record<string, unknown>>;

/**
 * Scores what was tuned as it will be used: loaded from its folder. Accuracy and F1 for classes and labels, exact match and F1 for
 * answers, BLEU for translations, and perplexity for what predicts tokens.
 */
export async function scoreFolder(device: Device, options: ScoreOptions): Promise<Scores> {
  const { task, folder, held, heldLoss, length, signal } = options;
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
    if (task === "next-sentence") return await scoreNextSentences(model, { held, heldLoss, length, signal });
    if (task === "labels") return await scoreLabels(model, held, signal);
    if (task === "answer") {
      const answers = await model.answer(held.questions, { maxTokens: Math.min(length, model.contextLength), signal });
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

const ENCODER_TASKS: ReadonlySet<FinetuneTask> = new Set(["classification", "labels", "answer", "next-sentence"]);

/** Of pairs that are drawn as in training, the same ones each time. */
async function scoreNextSentences(
  model: EncoderModel,
  { held, heldLoss, length, signal }: Pick<ScoreOptions, "held" | "heldLoss" | "length" | "signal">,
): Promise<Scores> {
  const { tokenizer } = model;
  if (!tokenizer) return { perplexity: Math.exp(heldLoss) };
  const [vary, uniform] = [pairSentences(tokenizer, length), uniformGenerator(1)];
  let right = 0;
  for (const item of held.items) {
    const { ids, segments, targets } = vary(item, uniform, held.items);
    const typeIds = model.facts.segments > 1 ? segments : undefined;
    const { logits } = (await model.logits(ids, { typeIds, signal })) as { logits: Float32Array };
    if (logits.indexOf(Math.max(...logits)) === targets[0]) right++;
  }
  return { accuracy: right / held.items.length, perplexity: Math.exp(heldLoss) };
}

/** Of the first token of each word. */
async function scoreLabels(model: EncoderModel, { items }: Examples, signal: AbortSignal): Promise<Scores> {
  const [told, right]: [string[], string[]] = [[], []];
  for (const { ids, targets, segments } of items) {
    const typeIds = model.facts.segments > 1 ? segments : undefined;
    const { logits } = (await model.logits(ids, { typeIds, signal })) as { logits: readonly Float32Array[] };
    targets.forEach((target, t) => {
      if (target === IGNORED_TARGET) return;
      const row = logits[t] ?? new Float32Array();
      told.push(model.labels[row.indexOf(Math.max(...row))] ?? "");
      right.push(model.labels[target] ?? "");
    });
  }
  return reported(classificationReport(told, right));
}

function reported({ accuracy, classes, micro, macro, weighted }: ClassificationReport): Scores {
  return { accuracy, f1: macro.f1, classes: Object.fromEntries(classes), micro, macro, weighted };
}
