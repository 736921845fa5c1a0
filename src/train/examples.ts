import { HeedError } from "../core/errors.ts";
import type { Tokenizers } from "../text/open_tokenizers.ts";
import type { ItemLine, ItemStream } from "./batches.ts";
import {
  type BadLineOptions,
  type DataFile,
  Misfit,
  notUtf8,
  readExamples as readLinesAs,
  readLines,
  refuseLine,
  SkippedLines,
} from "./data/lines.ts";
import { type QuestionExample, readJsonl, readSquad, readTsv, type TextPair } from "./data/readers.ts";
import { sentenceItems } from "./denoise_items.ts";
import type { TokenItem } from "./item_batches.ts";
import { countTargets, IGNORED_TARGET } from "./losses.ts";
import {
  answerItems,
  classItem,
  completionItem,
  labelledItem,
  sourceItem,
  textItems,
  translationItem,
  wordsItem,
} from "./task_items.ts";
import { namesLabels, type Task } from "./tasks.ts";

/** How a file's lines are read. */
interface ReadFieldsOptions {
  readonly task: Task;
  readonly skipBad?: boolean | undefined;
  /** What asks for that, in the error of a line that is not left out. Default `--skip-bad`. */
  readonly skipName?: string | undefined;
  /** Told of lines that are left out: of the first few why, and the numbers of all. */
  readonly note?: ((message: string) => void) | undefined;
  /** What is told by now, of a file that is read several times. */
  readonly skipped?: SkippedLines | undefined;
  /** It is read again, and more may be found bad then: the sum is told at that end. */
  readonly isFirst?: boolean;
}

/** How lines become items. */
interface ItemsOptions {
  readonly task: Task;
  readonly tokenizers: Tokenizers;
  /** Tokens of an example at most. */
  readonly length: number;
  /** Numbers of labels; training adds to them in the order in which they come. */
  readonly names: Map<string, number>;
  /** Training adds none: a run that goes on has a head for these. */
  readonly namesAreAll?: boolean | undefined;
  readonly isTraining: boolean;
}

/** How a file of examples is read. */
export type ReadExamplesOptions = ReadFieldsOptions & ItemsOptions;

/** What a file held. */
export interface Examples {
  readonly items: TokenItem[];
  /** Of texts with a class: what is to be told. */
  readonly classes: { readonly text: string; readonly label: string }[];
  readonly questions: QuestionExample[];
  readonly pairs: TextPair[];
}

/** What a line says, by the names of the task's fields. */
export type Fields = Readonly<Record<string, unknown>>;

/** A line, or a question. */
interface FieldsLine {
  /** From 1, rising. */
  readonly line: number;
  readonly fields: Fields;
}

/** A line's examples, and what is to be told of them. */
interface Example {
  readonly items: readonly TokenItem[];
  readonly told?: Partial<{ readonly [Kind in "classes" | "questions" | "pairs"]: Examples[Kind][number] }>;
}

/** Reads the examples of a file in the format of a task; `heed finetune --help` lists them. Throws `BAD_FILE`, `USAGE`. */
export async function readExamples(file: DataFile, options: ReadExamplesOptions): Promise<Examples> {
  const found = await gatherLines(readItems(file, options));
  if (options.isTraining) checkLabels(options, targetsOf(found.items), file.name);
  return found;
}

/** The same, of which the last `share` of the lines is held out. */
export async function readSplitExamples(
  file: DataFile,
  options: ReadExamplesOptions,
  share: number,
): Promise<{ readonly train: Examples; readonly held: Examples }> {
  const examples: Example[] = [];
  for await (const { items } of readItems(file, options)) examples.push(...items);
  const cut = Math.floor(examples.length * (1 - share));
  const [train, held] = [gather(examples.slice(0, cut)), gather(examples.slice(cut))];
  checkLabels(options, targetsOf(train.items), file.name);
  return { train, held };
}

/**
 * The same for a file that is too large for memory: read once an epoch, `buffer` lines at a time. Labels are collected in a first pass. Throws
 * `USAGE` for the format of SQuAD, which is one value.
 */
export async function streamExamples(
  file: DataFile,
  options: ReadExamplesOptions,
  buffer: number,
): Promise<ItemStream<TokenItem>> {
  if (options.task === "answer") {
    throw new HeedError(
      "USAGE",
      "data: a file in SQuAD's format is read whole. Leave the buffer out (--buffer, or data.buffer of a recipe).",
    );
  }
  const { skipped = skippedOf(file, options) } = options;
  const reading = { ...options, skipped };
  if (namesLabels(options.task)) {
    const seen = new Set<number>();
    for await (const { items } of readItems(file, reading))
      for (const target of targetsOf(items.flatMap((example) => example.items))) seen.add(target);
    checkLabels(options, seen, file.name);
  }
  return {
    buffer,
    async *read(afterLine) {
      for await (const { line, items } of readItems(file, reading, afterLine))
        yield { line, items: items.flatMap((example) => example.items) };
    },
  };
}

/** Examples of fields that are there already, such as a page's. Throws `USAGE` for those that are none. */
export function examplesOf(all: readonly Fields[], options: ItemsOptions): Examples {
  const make = exampleMaker(options);
  const found = gather(
    all.map((fields, i) => {
      try {
        return make({ fields, line: i + 1 });
      } catch (error) {
        if (!(error instanceof Misfit)) throw error;
        throw new HeedError("USAGE", `data: example ${i + 1} ${error.message}. Change it, or leave it out.`);
      }
    }),
  );
  if (options.isTraining) checkLabels(options, targetsOf(found.items));
  return found;
}

/** What makes examples of a pair and its line's number, by the fields of {@link pairFields}. It may throw {@link Misfit}. */
export function pairMaker(options: ItemsOptions): (pair: TextPair, line: number) => Example[] {
  const make = exampleMaker(options);
  return (pair, line) => pairFields(options.task, pair).map((fields) => make({ fields, line }));
}

/** Examples that come line by line. */
export async function gatherLines(lines: AsyncIterable<ItemLine<Example>>): Promise<Examples> {
  const examples: Example[] = [];
  for await (const { items } of lines) examples.push(...items);
  return gather(examples);
}

function* targetsOf(items: readonly TokenItem[]): Generator<number> {
  for (const { targets } of items) yield* targets;
}

/** Throws for examples that all have the same label: of them there is nothing to learn. */
function checkLabels({ task, names }: ItemsOptions, targets: Iterable<number>, file?: string): void {
  if (!namesLabels(task)) return;
  const seen = new Set(targets);
  seen.delete(IGNORED_TARGET);
  if (seen.size !== 1) return;
  const only = JSON.stringify([...names.keys()].find((name) => seen.has(names.get(name) ?? -1)));
  throw new HeedError(
    file === undefined ? "USAGE" : "BAD_FILE",
    `data: ${task} needs at least two labels to tell apart; got only ${only}${file === undefined ? "" : ` in ${file}`}. Add examples of another.`,
  );
}

/** The texts of a file's first `most` lines, which a tokenizer is trained on. */
export async function readExampleTexts(
  file: DataFile,
  options: ReadFieldsOptions,
  most = Number.POSITIVE_INFINITY,
): Promise<string[]> {
  const texts: string[] = [];
  let lines = 0;
  for await (const own of readFields(file, options, ({ fields }) => textsOf(options.task, fields), 0)) {
    for (const text of own) texts.push(text);
    if (++lines >= most) break;
  }
  return texts;
}

/**
 * Numbers of the labels that a model's own head knows, which they keep: a head that is trained further must not mix them up. `kept` are those of
 * a run that goes on, which are all that there are.
 */
export function knownLabels(
  { id2label }: Readonly<Record<string, unknown>>,
  kept?: readonly string[],
): Pick<ItemsOptions, "names" | "namesAreAll"> {
  const numbered = (labels: readonly string[]) => new Map(labels.map((label, i) => [label, i]));
  if (kept) return { names: numbered(kept), namesAreAll: true };
  const labels = typeof id2label === "object" && id2label !== null ? Object.values(id2label).map(String) : [];
  // Names that transformers writes where there are none.
  return { names: labels.every((label) => /^LABEL_\d+$/.test(label)) ? new Map() : numbered(labels) };
}

/** What a pair of texts says for a task; nothing for tasks that pairs are no examples of. */
export function pairFields(task: Task, { source, target }: TextPair): Fields[] {
  switch (task) {
    case "translation":
      return [{ source, target }];
    case "completion":
    case "prefix-lm":
      return [{ prompt: source, completion: target }];
    case "next-sentence":
    case "pretraining":
      return [{ sentences: [source, target] }];
    case "masked-lm":
    case "masked-translation":
    case "span-corruption":
      return [{ text: source }, { text: target }];
    default:
      return [];
  }
}

function gather(examples: readonly Example[]): Examples {
  const found: Examples = { items: [], classes: [], questions: [], pairs: [] };
  for (const { items, told = {} } of examples) {
    for (const item of items) if (item.ids.length > 0) found.items.push(item);
    if (told.classes) found.classes.push(told.classes);
    if (told.questions) found.questions.push(told.questions);
    if (told.pairs) found.pairs.push(told.pairs);
  }
  return found;
}

/** The examples of a file line by line. */
async function* readItems(
  file: DataFile,
  options: ReadExamplesOptions,
  afterLine = 0,
): AsyncGenerator<ItemLine<Example>> {
  const make = exampleMaker(options);
  yield* readFields(file, options, (at): ItemLine<Example> => ({ line: at.line, items: [make(at)] }), afterLine);
}

/** What `parse` makes of each line of a file in the format of a task. It may throw {@link Misfit}. */
async function* readFields<T>(
  file: DataFile,
  options: ReadFieldsOptions,
  parse: (line: FieldsLine) => T,
  afterLine: number,
): AsyncGenerator<T> {
  const { task, skipBad = false, skipName, skipped = skippedOf(file, options) } = options;
  const reading = { skipBad, onBad: skipped.add, afterLine, ...(skipName === undefined ? {} : { skipName }) };
  const lined = (fields: Fields, line: number): T => parse({ fields, line });
  const row = (fields: Fields, line: number): T => {
    if (line > 1 || fields["label"] !== "label") return lined(fields, line);
    throw new Misfit(`a header must name ${columns.join(" and ")}`, Object.values(fields).join(", "));
  };
  const plain = file.name.replace(/\.gz$/, "");
  const columns = task === "translation" ? ["source", "target"] : ["text", "label"];
  if (task === "answer") {
    let line = 0;
    for await (const question of readSquad(file, reading)) yield lined({ ...question }, ++line);
  } else if (plain.endsWith(".jsonl")) yield* readJsonl(file, lined, reading);
  else if (plain.endsWith(".tsv")) yield* readTsv(file, row, { ...reading, columns, onHeader: skipped.tell });
  else if (PAIRS_OF_SENTENCES.includes(task)) yield* readDocuments(file, lined, reading);
  else if (TEXT_TASKS.includes(task)) yield* readLinesAs(file, (text, line) => lined({ text }, line), reading);
  else {
    throw new HeedError(
      "USAGE",
      `data: examples for ${task} are .jsonl or .tsv (heed finetune --help); got ${file.name}. Name it so.`,
    );
  }
  if (!options.isFirst) skipped.end();
}

/** Tells of what is left out of a file in the format of a task. */
export function skippedOf(file: DataFile, { task, note }: Pick<ReadFieldsOptions, "task" | "note">): SkippedLines {
  return new SkippedLines(file, note, task === "answer" ? "questions" : "lines");
}

/** Tasks that need nothing beside a text. */
const TEXT_TASKS: readonly Task[] = ["lm", "masked-lm", "masked-translation", "span-corruption"];

/** Tasks that read documents of sentences. */
const PAIRS_OF_SENTENCES: readonly Task[] = ["next-sentence", "pretraining"];

/** A sentence a line, an empty line between documents: each sentence with the next one of its document. */
async function* readDocuments<T>(
  file: DataFile,
  lined: (fields: Fields, line: number) => T,
  options: BadLineOptions,
): AsyncGenerator<T> {
  const { afterLine = 0 } = options;
  let [document, before] = [0, ""];
  for await (const { number: line, text } of readLines(file)) {
    if (text === undefined) {
      if (line > afterLine) refuseLine(file, line, notUtf8(), options);
      continue;
    }
    if (text.trim() === "") document++;
    else if (before !== "" && line > afterLine) yield lined({ sentences: [before, text], document }, line);
    before = text.trim();
  }
}

/** Makes items of a line's fields, as a task reads them. Throws {@link Misfit} for fields that are no example of it. */
function exampleMaker(options: ItemsOptions): (line: FieldsLine) => Example {
  const { task, length, tokenizers } = options;
  const tokenizer = tokenizers.source;
  const numberOf = (label: unknown): number => labelNumber(label, options);
  const completion = ({ fields: o }: FieldsLine): Example => {
    const prompt = textOf(o, "prompt");
    const item = completionItem(tokenizer, prompt, textOf(o, "completion"));
    if (countTargets(Int32Array.from(item.targets.slice(0, length))) > 0) return { items: [item] };
    throw new Misfit(
      `a completion must begin within ${length} tokens (--length, or length of a recipe)`,
      `a prompt of ${item.prefix}: ${prompt}`,
    );
  };
  const masked = ({ fields: o }: FieldsLine): Example => ({
    items: [sourceItem(tokenizer, textOf(o, "text"), length)],
  });
  const sentences = ({ fields: o, line }: FieldsLine): Example => {
    const document = typeof o["document"] === "number" ? o["document"] : line;
    return { items: sentenceItems(tokenizer, sentencesOf(o), document) };
  };
  const makers: Record<Task, (line: FieldsLine) => Example> = {
    lm: ({ fields: o }) => ({ items: textItems(tokenizer, textOf(o, "text"), length) }),
    "masked-lm": ({ fields: o }) => ({ items: [wordsItem(tokenizer, textOf(o, "text"), length)] }),
    "masked-translation": masked,
    "span-corruption": masked,
    "next-sentence": sentences,
    pretraining: sentences,
    completion,
    "prefix-lm": completion,
    classification: ({ fields: o }) => {
      const text = textOf(o, "text");
      const items = [classItem(tokenizer, text, numberOf(o["label"]), length)];
      return { items, told: { classes: { text, label: String(o["label"]) } } };
    },
    labels: ({ fields: o }) => {
      const { words, labels } = labelledWords(o);
      return { items: [labelledItem(tokenizer, words, labels.map(numberOf), length)] };
    },
    answer: ({ fields }) => {
      const questions = fields as unknown as QuestionExample;
      return { items: answerItems(tokenizer, questions, length), told: { questions } };
    },
    translation: ({ fields: o }) => {
      const pairs = { source: textOf(o, "source"), target: textOf(o, "target") };
      const item = translationItem(tokenizers, pairs);
      if (Math.max(item.ids.length, item.targets.length) > length) {
        throw new Misfit(
          `each side may have ${length} tokens (--length, or length of a recipe)`,
          JSON.stringify(pairs),
        );
      }
      return { items: [item], told: { pairs } };
    },
  };
  return makers[task];
}

/** The texts of a line's fields. */
function textsOf(task: Task, fields: Fields): readonly string[] {
  switch (task) {
    case "completion":
    case "prefix-lm":
      return [textOf(fields, "prompt"), textOf(fields, "completion")];
    case "translation":
      return [textOf(fields, "source"), textOf(fields, "target")];
    case "next-sentence":
    case "pretraining":
      return sentencesOf(fields);
    case "labels":
      return labelledWords(fields).words;
    case "answer":
      return [textOf(fields, "question"), textOf(fields, "context")];
    default:
      return [textOf(fields, "text")];
  }
}

function labelledWords(o: Fields): { readonly words: readonly string[]; readonly labels: readonly unknown[] } {
  const { words, labels } = o;
  if (!Array.isArray(words) || !Array.isArray(labels) || words.length !== labels.length) {
    throw new Misfit("must have words and as many labels", JSON.stringify(o));
  }
  if (!words.every((word) => typeof word === "string")) throw new Misfit("words must be text", JSON.stringify(o));
  return { words, labels };
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

function labelNumber(label: unknown, { names, namesAreAll, isTraining }: ItemsOptions): number {
  const name = typeof label === "number" ? String(label) : label;
  if (typeof name !== "string" || name.trim() === "") {
    throw new Misfit("must have a label", JSON.stringify(label) ?? "none");
  }
  const known = names.get(name);
  if (known === undefined && isTraining && namesAreAll) {
    const [all, more] = [[...names.keys()], names.size > 10 ? " and others" : ""];
    throw new Misfit(`a run that is resumed has a head for the labels ${all.slice(0, 10).join(", ")}${more}`, name);
  }
  if (known === undefined && !isTraining) throw new Misfit("a held-out label must occur in training", name);
  if (known === undefined) names.set(name, names.size);
  return known ?? names.size - 1;
}
