import { HeedError } from "../core/errors.ts";
import { openCheckpoint } from "../formats/checkpoint.ts";
import type { SourceSpec } from "../sources/open_source.ts";
import type { Engine } from "../tasks/engine.ts";
import { openTokenizers } from "../text/open_tokenizers.ts";
import { examplesOf, type Fields, knownLabels } from "./examples.ts";
import { Finetuning, type FinetuneOptions } from "./finetune.ts";
import { defaultLength } from "./finetune_models.ts";
import { readKeptRun } from "./run_record.ts";
import { checkFinetuning } from "./open_options.ts";
import type { AnsweredQuestion } from "./task_items.ts";

/** What a checkpoint is tuned on, by task. */
export type FinetuneExamples =
  /** `lm`: texts of any length, each cut into pieces of `length` tokens. The others hide a part of each text, another one each time. */
  | { readonly task: "lm" | "masked-lm" | "masked-translation" | "span-corruption"; readonly texts: readonly string[] }
  /** The completion alone is predicted. */
  | {
      readonly task: "completion" | "prefix-lm";
      readonly pairs: readonly { readonly prompt: string; readonly completion: string }[];
    }
  | {
      readonly task: "translation";
      readonly pairs: readonly { readonly source: string; readonly target: string }[];
    }
  | {
      readonly task: "classification";
      readonly texts: readonly { readonly text: string; readonly label: string | number }[];
    }
  /** A label for each word. */
  | {
      readonly task: "labels";
      readonly sentences: readonly {
        readonly words: readonly string[];
        readonly labels: readonly (string | number)[];
      }[];
    }
  /** Questions about texts, as SQuAD has them; no answer means that the text has none. */
  | { readonly task: "answer"; readonly questions: readonly AnsweredQuestion[] }
  /** The sentences of each document, in their order. */
  | { readonly task: "next-sentence" | "pretraining"; readonly documents: readonly (readonly string[])[] };

/** How {@link openFinetuning} tunes; everything but the number of updates has a default. */
export interface FinetuningOptions
  extends Partial<Omit<FinetuneOptions, "task" | "tokenizer" | "items" | "validation" | "labels" | "steps">> {
  /** Updates. */
  readonly steps: number;
  /** Examples of the same task that are held out, for evaluations. */
  readonly heldOut?: FinetuneExamples;
  /** At its highest; default 2e-4. Not beside `schedule`, which has its own. */
  readonly learningRate?: number;
}

/**
 * Opens a checkpoint for tuning on an engine's device: what `heed finetune` runs, in a page too. It is loaded anew, in f32, so that a model
 * that is in use stays as it is. Whoever opened it disposes it. Throws `USAGE`, `BAD_FILE`, `UNSUPPORTED`, `NETWORK`.
 *
 * @example
 * const examples = { task: "lm", texts: [await file.text()] } as const;
 * const tuning = await openFinetuning(engine, "hf:owner/name", examples, { steps: 200, lora: { rank: 8 } });
 * for await (const { step, loss } of tuning) console.log(step, loss);
 * const adapter = await tuning.adapterFiles("owner/name");
 * await tuning.dispose();
 */
export async function openFinetuning<const E extends FinetuneExamples>(
  engine: Engine,
  spec: SourceSpec,
  examples: E,
  options: FinetuningOptions,
): Promise<Finetuning<E["task"]>> {
  checkFinetuning(engine, examples, options);
  const { heldOut, learningRate = 2e-4, ...given } = options;
  const { steps, signal } = given;
  const checkpoint = await openCheckpoint(await engine.open("finetune", spec), { signal });
  const tokenizers = await openTokenizers(checkpoint, { signal });
  if (!tokenizers) {
    throw new HeedError("USAGE", `finetune: a model with a tokenizer is needed; got ${checkpoint.source.description}.`);
  }
  const { length = defaultLength(examples.task, checkpoint.config) } = given;
  const kept = given.from && (await readKeptRun(given.from, examples.task));
  const known = knownLabels(checkpoint.config, kept?.labels);
  const { names } = known;
  const reading = { task: examples.task, tokenizers, length, ...known };
  const { items } = examplesOf(fieldsOf(examples), { ...reading, isTraining: true });
  const held = heldOut && examplesOf(fieldsOf(heldOut), { ...reading, isTraining: false });
  return Finetuning.open(engine.device, checkpoint, {
    batch: 16,
    optimizer: { type: "adamw", weightDecay: 0.01, clip: 1 },
    schedule: { type: "linear", learningRate, warmup: Math.min(20, steps) },
    ...given,
    ...{ length, task: examples.task as E["task"], tokenizer: tokenizers.source, items },
    ...(held ? { validation: held.items } : {}),
    ...(names.size > 0 ? { labels: [...names.keys()] } : {}),
  });
}

/** Examples as the fields of lines, which a file of `heed finetune` has too. */
function fieldsOf(examples: FinetuneExamples): readonly Fields[] {
  switch (examples.task) {
    case "lm":
    case "masked-lm":
    case "masked-translation":
    case "span-corruption":
      return examples.texts.map((text) => ({ text }));
    case "classification":
      return examples.texts.map(({ text, label }) => ({ text, label }));
    case "labels":
      return examples.sentences.map(({ words, labels }) => ({ words, labels }));
    case "answer":
      return examples.questions.map(answeredFields);
    case "next-sentence":
    case "pretraining":
      return examples.documents.map((sentences) => ({ sentences }));
    default:
      return examples.pairs.map((pair) => ({ ...pair }));
  }
}

function answeredFields({ question, context, answers }: AnsweredQuestion, i: number): Fields {
  const wrong = answers.find(({ text, start }) => text === "" || context.slice(start, start + text.length) !== text);
  if (!wrong) return { question, context, answers };
  throw new HeedError(
    "USAGE",
    `data: example ${i + 1}: an answer must stand in its context at its start; got ${JSON.stringify(wrong)}.`,
  );
}
