import { HeedError } from "../core/errors.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { Tokenizers } from "../text/open_tokenizers.ts";
import { diskFile } from "../train/data/files_node.ts";
import type { ItemLine, ItemStream } from "../train/batches.ts";
import {
  type BadLineOptions,
  badLine,
  type DataFile,
  Misfit,
  readExamples as readLinesAs,
  readLines,
} from "../train/data/lines.ts";
import { type QuestionExample, readJsonl, readSquad, readTsv } from "../train/data/readers.ts";
import { sentenceItems } from "../train/denoise_items.ts";
import type { FinetuneTask } from "../train/finetune_models.ts";
import type { TokenItem } from "../train/item_batches.ts";
import {
  answerItems,
  classItem,
  completionItem,
  labelledItem,
  sourceItem,
  textItems,
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
  const found: Examples = { items: [], classes: [], questions: [], pairs: [] };
  for await (const { items } of readItems(path, options, found)) for (const item of items) found.items.push(item);
  return found;
}

/**
 * The same for a file that is too large for memory: read once an epoch, `buffer` lines at a time. Labels are collected in a first pass. Throws
 * `USAGE` for the format of SQuAD, which is one value.
 */
export async function streamExamples(
  path: string,
  options: ReadExamplesOptions,
  buffer: number,
): Promise<ItemStream<TokenItem>> {
  if (options.task === "answer") {
    throw new HeedError("USAGE", "finetune: a file in SQuAD's format is read whole. Leave --buffer out.");
  }
  if (options.task === "classification" || options.task === "labels") {
    for await (const _ of readItems(path, options));
  }
  const quiet = { ...options, isQuiet: true };
  return { buffer, read: (afterLine) => readItems(path, { ...quiet, afterLine }) };
}

interface ReadItemsOptions extends ReadExamplesOptions {
  readonly afterLine?: number;
  readonly isQuiet?: boolean;
}

/** The examples of a file line by line; what is to be told of them besides goes to `found`. */
async function* readItems(
  path: string,
  options: ReadItemsOptions,
  found?: Examples,
): AsyncGenerator<ItemLine<TokenItem>> {
  const { task, tokenizers, length, skipBad, afterLine = 0, isQuiet = false } = options;
  let skipped = 0;
  const onBad = (message: string): void => {
    if (skipped++ < MOST_NOTES && !isQuiet) note(message);
  };
  const reading = { skipBad, onBad, afterLine };
  const file = diskFile(path);
  if (task === "answer") {
    let line = 0;
    for await (const question of readSquad(file, reading)) {
      found?.questions.push(question);
      yield { line: ++line, items: answerItems(tokenizers.source, question, length) };
    }
  } else {
    const make = makerOf(options, found);
    const plain = path.replace(/\.gz$/, "");
    const columns = task === "translation" ? ["source", "target"] : ["text", "label"];
    const lined = (o: Fields, line: number): ItemLine<TokenItem> => ({ line, items: make(o, line) });
    const lines = plain.endsWith(".jsonl")
      ? readJsonl(file, lined, reading)
      : plain.endsWith(".tsv")
        ? readTsv(file, lined, { ...reading, columns })
        : task === "next-sentence"
          ? readDocuments(file, tokenizers.source, reading)
          : readTexts(path, options, { lined, reading });
    for await (const { line, items } of lines) yield { line, items: items.filter(({ ids }) => ids.length > 0) };
  }
  if (skipped > 0 && !isQuiet) note(`heed: ${skipped} bad lines of ${path} were left out`);
}

/** Tasks that need nothing beside a text. */
const TEXT_TASKS: readonly FinetuneTask[] = ["lm", "masked-lm", "masked-translation", "span-corruption"];

function readTexts(
  path: string,
  { task }: ReadItemsOptions,
  {
    lined,
    reading,
  }: { readonly lined: (o: Fields, line: number) => ItemLine<TokenItem>; readonly reading: BadLineOptions },
): AsyncGenerator<ItemLine<TokenItem>> {
  if (!TEXT_TASKS.includes(task)) {
    throw new HeedError("USAGE", `finetune: data for ${task} is .jsonl or .tsv (see --help); got ${path}. Name it so.`);
  }
  return readLinesAs(diskFile(path), (text, line) => lined({ text }, line), reading);
}

/** A sentence a line, an empty line between documents: each sentence with the next one of its document. */
async function* readDocuments(
  file: DataFile,
  tokenizer: Tokenizer,
  { afterLine = 0, skipBad = false, onBad }: BadLineOptions,
): AsyncGenerator<ItemLine<TokenItem>> {
  let [document, before] = [0, ""];
  for await (const { number: line, text } of readLines(file)) {
    if (text === undefined) {
      const bad = badLine(file, line, "must be UTF-8", "other bytes");
      if (!skipBad) throw bad;
      onBad?.(bad.message);
      continue;
    }
    if (text.trim() === "") document++;
    else if (before !== "" && line > afterLine)
      yield { line, items: sentenceItems(tokenizer, [before, text], document) };
    before = text.trim();
  }
}

function makerOf(options: ReadExamplesOptions, found?: Examples): (fields: Fields, line: number) => TokenItem[] {
  const { task, length, tokenizers } = options;
  const tokenizer: Tokenizer = tokenizers.source;
  const numberOf = (label: unknown): number => labelNumber(label, options);
  const completion = (o: Fields) => [completionItem(tokenizer, textOf(o, "prompt"), textOf(o, "completion"))];
  const masked = (o: Fields) => [sourceItem(tokenizer, textOf(o, "text"), length)];
  const makers: Record<Exclude<FinetuneTask, "answer">, (o: Fields, line: number) => TokenItem[]> = {
    lm: (o) => textItems(tokenizer, textOf(o, "text"), length),
    "masked-lm": (o) => [wordsItem(tokenizer, textOf(o, "text"), length)],
    "masked-translation": masked,
    "span-corruption": masked,
    "next-sentence": (o, line) => sentenceItems(tokenizer, sentencesOf(o), line),
    completion,
    "prefix-lm": completion,
    classification: (o) => {
      const text = textOf(o, "text");
      const number = numberOf(o["label"]);
      found?.classes.push({ text, label: String(o["label"]) });
      return [classItem(tokenizer, text, number, length)];
    },
    labels: (o) => {
      const { words, labels } = o;
      if (!Array.isArray(words) || !Array.isArray(labels) || words.length !== labels.length) {
        throw new Misfit("must have words and as many labels", JSON.stringify(o));
      }
      if (!words.every((word) => typeof word === "string")) throw new Misfit("words must be text", JSON.stringify(o));
      return [labelledItem(tokenizer, words, labels.map(numberOf), length)];
    },
    translation: (o) => {
      const pair = { source: textOf(o, "source"), target: textOf(o, "target") };
      const item = translationItem(tokenizers, pair);
      if (Math.max(item.ids.length, item.targets.length) > length) {
        throw new Misfit(`each side may have ${length} tokens (--length)`, JSON.stringify(pair));
      }
      found?.pairs.push(pair);
      return [item];
    },
  };
  return makers[task as Exclude<FinetuneTask, "answer">];
}

function sentencesOf({ sentences }: Fields): string[] {
  const isText = (sentence: unknown): sentence is string => typeof sentence === "string" && sentence.trim() !== "";
  if (Array.isArray(sentences) && sentences.length > 1 && sentences.every(isText)) return sentences;
  throw new Misfit('must have two sentences or more in "sentences"', JSON.stringify(sentences) ?? "none");
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
