import { HeedError } from "../core/errors.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { Tokenizers } from "../text/open_tokenizers.ts";
import { diskFile } from "../train/data/files_node.ts";
import { Misfit } from "../train/data/lines.ts";
import { type QuestionExample, readJsonl, readSquad, readText, readTsv } from "../train/data/readers.ts";
import type { FinetuneTask } from "../train/finetune_models.ts";
import type { TokenItem } from "../train/item_batches.ts";
import {
  answerItems,
  classItem,
  completionItem,
  labelledItem,
  textItem,
  translationItem,
  wordsItem,
} from "../train/task_items.ts";
import { note } from "./output.ts";

/** How a file of examples is read. */
export interface ReadExamplesOptions {
  readonly task: FinetuneTask;
  readonly tokenizers: Tokenizers;
  /** Tokens of an example at most. */
  readonly length: number;
  /** Numbers of labels; training adds to them in the order in which they come. */
  readonly names: Map<string, number>;
  readonly isTraining: boolean;
  readonly skipBad: boolean;
}

/** What a file held. */
export interface Examples {
  readonly items: TokenItem[];
  /** Of texts with a class: what is to be told. */
  readonly classes: { readonly text: string; readonly label: string }[];
  readonly questions: QuestionExample[];
  readonly pairs: { readonly source: string; readonly target: string }[];
}

type Fields = Readonly<Record<string, unknown>>;

/** Lines that are told of, of those that were left out. */
const MOST_NOTES = 5;

/** Reads the examples of a file in the format of a task; `heed finetune --help` lists them. Throws `BAD_FILE`, `USAGE`. */
export async function readExamples(path: string, options: ReadExamplesOptions): Promise<Examples> {
  let skipped = 0;
  const reading = {
    skipBad: options.skipBad,
    onBad: (message: string) => {
      if (skipped++ < MOST_NOTES) note(message);
    },
  };
  const found: Examples = { items: [], classes: [], questions: [], pairs: [] };
  const file = diskFile(path);
  if (options.task === "answer") {
    const { tokenizers, length } = options;
    for await (const question of readSquad(file, reading)) {
      found.questions.push(question);
      found.items.push(...answerItems(tokenizers.source, question, length));
    }
  } else {
    const make = makerOf(options, found);
    const plain = path.replace(/\.gz$/, "");
    const columns = options.task === "translation" ? ["source", "target"] : ["text", "label"];
    const examples = plain.endsWith(".jsonl")
      ? readJsonl(file, make, reading)
      : plain.endsWith(".tsv")
        ? readTsv(file, make, { ...reading, columns })
        : readText(file, reading);
    for await (const example of examples) {
      const item = typeof example === "string" ? textOnly(options.task, path, make)(example) : example;
      if (item.ids.length > 0) found.items.push(item);
    }
  }
  if (skipped > 0) note(`heed: ${skipped} bad lines of ${path} were left out`);
  return found;
}

/** Lines of text are examples of the tasks that need nothing beside it. */
function textOnly(task: FinetuneTask, path: string, make: (fields: Fields) => TokenItem): (text: string) => TokenItem {
  if (task === "lm" || task === "masked-lm") return (text) => make({ text });
  throw new HeedError("USAGE", `finetune: data for ${task} is .jsonl or .tsv (see --help); got ${path}. Name it so.`);
}

function makerOf(options: ReadExamplesOptions, found: Examples): (fields: Fields) => TokenItem {
  const { task, length, tokenizers } = options;
  const tokenizer: Tokenizer = tokenizers.source;
  const numberOf = (label: unknown): number => labelNumber(label, options);
  const completion = (o: Fields) => completionItem(tokenizer, textOf(o, "prompt"), textOf(o, "completion"));
  const makers: Record<Exclude<FinetuneTask, "answer">, (o: Fields) => TokenItem> = {
    lm: (o) => textItem(tokenizer, textOf(o, "text")),
    "masked-lm": (o) => wordsItem(tokenizer, textOf(o, "text"), length),
    completion,
    "prefix-lm": completion,
    classification: (o) => {
      const text = textOf(o, "text");
      const number = numberOf(o["label"]);
      found.classes.push({ text, label: String(o["label"]) });
      return classItem(tokenizer, text, number, length);
    },
    labels: (o) => {
      const { words, labels } = o;
      if (!Array.isArray(words) || !Array.isArray(labels) || words.length !== labels.length) {
        throw new Misfit("must have words and as many labels", JSON.stringify(o));
      }
      if (!words.every((word) => typeof word === "string")) throw new Misfit("words must be text", JSON.stringify(o));
      return labelledItem(tokenizer, words, labels.map(numberOf), length);
    },
    translation: (o) => {
      const pair = { source: textOf(o, "source"), target: textOf(o, "target") };
      const item = translationItem(tokenizers, pair);
      if (Math.max(item.ids.length, item.targets.length) > length) {
        throw new Misfit(`each side may have ${length} tokens (--length)`, JSON.stringify(pair));
      }
      found.pairs.push(pair);
      return item;
    },
  };
  return makers[task as Exclude<FinetuneTask, "answer">];
}

function textOf(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value !== "string" || value.trim() === "") {
    throw new Misfit(`must have text in "${name}"`, JSON.stringify(value) ?? "none");
  }
  return value;
}

function labelNumber(label: unknown, { names, isTraining }: ReadExamplesOptions): number {
  const name = typeof label === "number" ? String(label) : label;
  if (typeof name !== "string") throw new Misfit("must have a label", JSON.stringify(label) ?? "none");
  const known = names.get(name);
  if (known === undefined && !isTraining) throw new Misfit("a held-out label must occur in training", name);
  if (known === undefined) names.set(name, names.size);
  return known ?? names.size - 1;
}
