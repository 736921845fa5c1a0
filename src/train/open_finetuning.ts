import { HeedError } from "../core/errors.ts";
import { openCheckpoint } from "../formats/checkpoint.ts";
import { openSource, type SourceSpec } from "../sources/open_source.ts";
import type { Engine } from "../tasks/engine.ts";
import { openTokenizers, type Tokenizers } from "../text/open_tokenizers.ts";
import { Finetuning, type FinetuneOptions } from "./finetune.ts";
import type { TokenItem } from "./item_batches.ts";
import { classItem, completionItem, textItems, translationItem } from "./task_items.ts";

/** What a checkpoint is tuned on, by task. */
export type FinetuneExamples =
  /** Texts of any length: each is cut into pieces of `length` tokens. */
  | { readonly task: "lm"; readonly texts: readonly string[] }
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
      readonly texts: readonly { readonly text: string; readonly label: string }[];
    };

/** How {@link openFinetuning} tunes; everything but the number of updates has a default. */
export interface FinetuningOptions
  extends Partial<Omit<FinetuneOptions, "task" | "tokenizer" | "items" | "validation" | "labels" | "steps">> {
  /** Updates. */
  readonly steps: number;
  /** Examples of the same task that are held out, for evaluations. */
  readonly heldOut?: FinetuneExamples;
  /** At its highest; default 2e-4. Not used beside `schedule`. */
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
export async function openFinetuning(
  engine: Engine,
  spec: SourceSpec,
  examples: FinetuneExamples,
  options: FinetuningOptions,
): Promise<Finetuning> {
  const { heldOut, learningRate = 2e-4, ...given } = options;
  const { steps, signal, length = 128 } = given;
  const checkpoint = await openCheckpoint(await openSource(spec), { signal });
  const tokenizers = await openTokenizers(checkpoint, { signal });
  if (!tokenizers) {
    throw new HeedError("USAGE", `finetune: a model with a tokenizer is needed; got ${checkpoint.source.description}.`);
  }
  const labels = labelsOf(checkpoint.config, examples);
  const items = itemsOf(examples, { tokenizers, length, labels });
  if (heldOut && heldOut.task !== examples.task) {
    throw new HeedError("USAGE", `finetune: what is held out must be for ${examples.task}; got ${heldOut.task}.`);
  }
  return Finetuning.open(engine.device, checkpoint, {
    batch: 16,
    optimizer: { type: "adamw", weightDecay: 0.01, clip: 1 },
    schedule: { type: "linear", learningRate, warmup: Math.min(20, steps) },
    ...given,
    ...{ length, task: examples.task, tokenizer: tokenizers.source, items },
    ...(heldOut ? { validation: itemsOf(heldOut, { tokenizers, length, labels }) } : {}),
    ...(labels.length > 0 ? { labels } : {}),
  });
}

interface Reading {
  readonly tokenizers: Tokenizers;
  readonly length: number;
  readonly labels: readonly string[];
}

function itemsOf(examples: FinetuneExamples, { tokenizers, length, labels }: Reading): TokenItem[] {
  const tokenizer = tokenizers.source;
  switch (examples.task) {
    case "lm":
      return examples.texts.flatMap((text) => textItems(tokenizer, text, length));
    case "completion":
    case "prefix-lm":
      return examples.pairs.map(({ prompt, completion }) => completionItem(tokenizer, prompt, completion));
    case "translation":
      return examples.pairs.map((pair) => translationItem(tokenizers, pair));
    case "classification":
      return examples.texts.map(({ text, label }) => {
        const number = labels.indexOf(label);
        if (number < 0)
          throw new HeedError("USAGE", `finetune: a held-out label must occur in training; got ${label}.`);
        return classItem(tokenizer, text, number, length);
      });
  }
}

/** The labels of a task with classes: those that the model's own head knows keep their numbers. */
function labelsOf({ id2label }: Readonly<Record<string, unknown>>, examples: FinetuneExamples): string[] {
  if (examples.task !== "classification") return [];
  const own = typeof id2label === "object" && id2label !== null ? Object.values(id2label).map(String) : [];
  // Names that transformers writes where there are none.
  const known = own.every((label) => /^LABEL_\d+$/.test(label)) ? [] : own;
  return [...new Set([...known, ...examples.texts.map(({ label }) => label)])];
}
