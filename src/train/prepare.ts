import { HeedError } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { Model, WeightTree } from "../models/family.ts";
import { loadTokenizer, type Tokenizer } from "../text/tokenizer.ts";
import { type BatchSource, type ItemLine, StreamedBatches } from "./batches.ts";
import { type BadLineOptions, type DataFile, SkippedLines, textFile } from "./data/lines.ts";
import { readTextLines } from "./data/readers.ts";
import type { Examples } from "./examples.ts";
import { initialise } from "./initialise.ts";
import type { Batch, Objective } from "./objective.ts";
import { type Recipe, taskOf } from "./recipe.ts";
import type { KeptRun } from "./run_record.ts";
import { openTask, type TaskModel } from "./tasks.ts";
import { trainTokenizer } from "./tokenizer/train_tokenizer.ts";
import { consecutiveWindows, RandomWindows, windowBatching } from "./windows.ts";

/** What a recipe trains: a model, its tokenizer, and batches. */
export interface Prepared {
  /** config.json of the result. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly model: Model;
  /** What runs on its weights between updates. */
  readonly network: TaskModel["network"];
  /** Files of the tokenizer by their names. */
  readonly tokenizerFiles: ReadonlyMap<string, string>;
  readonly tokenizer: Tokenizer;
  readonly data: BatchSource;
  /** All held-out batches, or at most so many of them. Absent where nothing is held out. */
  readonly validation: ((most?: number) => Iterable<Batch>) | undefined;
  /** Held-out examples as they were read, to score the result on. */
  readonly held?: Examples | undefined;
  objective(weights: WeightTree<Tensor>): Objective;
}

/** Reads a text file that a recipe names. */
export type ReadText = (path: string) => Promise<string>;

/** Opens a file of a recipe's data. */
export type OpenFile = (path: string) => DataFile;

/** How a recipe's files are reached. */
export interface RecipeFiles {
  readonly readText: ReadText;
  readonly openFile?: OpenFile;
  /** Hears what a person should know of and is no fault, such as the lines that are left out. */
  readonly onNote?: ((note: string) => void) | undefined;
  /** Of a run that goes on: what it takes from its checkpoint. */
  readonly kept?: KeptRun | undefined;
}

/** The field of a recipe that leaves bad lines out. */
export const SKIP_FIELD = "data.skipBad";

/** Share of a text that is held out where a recipe does not say. */
export const VALIDATION_SHARE = 0.1;

/** Reads a recipe's data and makes its tokenizer and batches. Throws `USAGE`, `BAD_FILE` and `UNSUPPORTED`. */
export async function prepareRecipe(recipe: Recipe, files: RecipeFiles): Promise<Prepared> {
  const task = taskOf(recipe);
  const hasExamples = "examples" in recipe.data;
  if (task === "lm" && !hasExamples) return prepareLanguageModel(recipe, files);
  if (task === "translation" && !hasExamples) {
    const { prepareTranslation } = await import("./prepare_translation.ts");
    return prepareTranslation(recipe, files);
  }
  const { prepareExamples } = await import("./prepare_examples.ts");
  return prepareExamples(recipe, task, files);
}

async function prepareLanguageModel(recipe: Recipe, from: RecipeFiles): Promise<Prepared> {
  const { data } = recipe;
  if (!("text" in data)) {
    throw new HeedError(
      "USAGE",
      `train: task ${recipe.task} needs data.text, a text file, or data.examples, a file of texts.`,
    );
  }
  const file = await openTexts(data.text, data, from);
  const held = data.validation === undefined ? undefined : await textOf(await openTexts(data.validation, data, from));
  const text = data.buffer === undefined ? await textOf(file) : "";
  const files = await tokenizerFiles(recipe, from, () =>
    data.buffer === undefined ? linesWithEnds(text) : firstTexts(file, data.buffer),
  );
  const tokenizer = openTokenizerFiles(files);
  const { config, model, network, contextLength, objective } = openTask("lm", configOf(recipe, tokenizer));
  checkLength(recipe, contextLength);
  const parts = { tokenizer, text, held, file };
  return {
    ...{ config, model, network, tokenizerFiles: files, tokenizer },
    ...(data.buffer === undefined ? wholeText(recipe, data, parts) : streamedText(recipe, data, parts)),
    objective: (weights) => objective(weights, { labelSmoothing: recipe.labelSmoothing }),
  };
}

type TextData = Extract<Recipe["data"], { readonly text: string }>;

interface TextParts {
  readonly tokenizer: Tokenizer;
  /** All of it, where it is not streamed. */
  readonly text: string;
  readonly held: string | undefined;
  readonly file: Texts;
}

type TextBatches = Pick<Prepared, "data" | "validation">;

function wholeText(recipe: Recipe, { validationShare }: TextData, { tokenizer, text, held }: TextParts): TextBatches {
  // Split by characters, as nanoGPT does, so that the held-out text is the same whatever the tokenizer.
  const share = held === undefined ? (validationShare ?? VALIDATION_SHARE) : 0;
  const cut = Math.floor(text.length * (1 - share));
  const ids = encodeText(tokenizer, text.slice(0, cut));
  return {
    data: new RandomWindows(ids, { batch: recipe.batch, length: recipe.length }, recipe.seed ?? 0),
    validation: heldWindows(recipe, encodeText(tokenizer, held ?? text.slice(cut))),
  };
}

/** A text that is read a buffer of lines at a time; nothing of it is held out. */
function streamedText(recipe: Recipe, data: TextData, { tokenizer, held, file }: TextParts): TextBatches {
  const { buffer = 1, validationShare } = data;
  checkStreamedShare(validationShare);
  const read = async function* (afterLine: number): AsyncGenerator<ItemLine<Uint32Array>> {
    for await (const { line, text } of file.read(afterLine))
      yield { line, items: [Uint32Array.from(tokenizer.encode(text, { addSpecialTokens: false }))] };
  };
  const batching = windowBatching({ batch: recipe.batch, length: recipe.length });
  return {
    data: new StreamedBatches({ buffer, read }, batching, recipe.seed ?? 0),
    validation: held === undefined ? undefined : heldWindows(recipe, encodeText(tokenizer, held)),
  };
}

function heldWindows({ batch, length }: Recipe, ids: Uint32Array): Prepared["validation"] {
  return ids.length > 1 ? (most) => consecutiveWindows(ids, { batch, length }, most) : undefined;
}

/** A file of text, or of JSON Lines with texts. */
interface Texts {
  /** What comes after so many lines. Throws `BAD_FILE` for a bad line, or tells of it where such are left out. */
  read(afterLine?: number): AsyncIterable<{ readonly line: number; readonly text: string }>;
}

async function openTexts(path: string, { skipBad = false }: TextData, from: RecipeFiles): Promise<Texts> {
  const file = await openData(path, from);
  const { reading, skipped } = skipping(file, skipBad, from);
  return {
    async *read(afterLine = 0) {
      yield* readTextLines(file, { ...reading, afterLine });
      skipped.end();
    },
  };
}

/** How bad lines of a recipe's file are treated, and what tells of those that are left out. */
export function skipping(
  file: DataFile,
  skipBad: boolean,
  { onNote }: RecipeFiles,
): { readonly reading: BadLineOptions; readonly skipped: SkippedLines } {
  const skipped = new SkippedLines(file, onNote);
  return { reading: { skipBad, skipName: SKIP_FIELD, onBad: skipped.add }, skipped };
}

/** All of a file one behind the other. */
async function textOf(texts: Texts): Promise<string> {
  let joined = "";
  for await (const { text } of texts.read()) joined += text;
  return joined;
}

/** What the tokenizer of a stream is trained on: as much as is held of it at a time. */
async function firstTexts(file: Texts, most: number): Promise<string[]> {
  const texts: string[] = [];
  for await (const { text } of file.read()) {
    texts.push(text);
    if (texts.length >= most) break;
  }
  return texts;
}

/** A file of a recipe's data; without a way to open it, it is held whole. */
export async function openData(path: string, { openFile, readText }: RecipeFiles): Promise<DataFile> {
  return openFile ? openFile(path) : textFile(await readText(path), path.replace(/\.gz$/, ""));
}

/** Fresh parameters as a recipe asks for them. The caller disposes the tree. */
export function initialiseRecipe(device: Device, model: Model, recipe: Recipe): WeightTree<Tensor> {
  return initialise(device, model, { seed: recipe.seed ?? 0, ...recipe.initialise });
}

/**
 * The tokenizer's files that a recipe asks for; `texts` gives what one is trained on. A run that goes on has its checkpoint's, whose ids its
 * weights were trained for. Throws `USAGE` where the file of a recipe's own is another.
 */
export async function tokenizerFiles(
  { tokenizer }: Recipe,
  { readText, kept }: RecipeFiles,
  texts: () => Iterable<string> | Promise<Iterable<string>>,
): Promise<ReadonlyMap<string, string>> {
  if (kept) return keptTokenizer(tokenizer, readText, kept);
  if (tokenizer.type === "file") return new Map([["tokenizer.json", await readText(tokenizer.path)]]);
  const { size, ...options } = tokenizer;
  const files = await trainTokenizer(await texts(), { ...options, ...(size === undefined ? {} : { vocabSize: size }) });
  return new Map([
    ["tokenizer.json", `${JSON.stringify(files.tokenizer, null, 1)}\n`],
    ["tokenizer_config.json", `${JSON.stringify(files.config, null, 2)}\n`],
  ]);
}

async function keptTokenizer(
  tokenizer: Recipe["tokenizer"],
  readText: ReadText,
  { tokenizerFiles: files }: KeptRun,
): Promise<ReadonlyMap<string, string>> {
  const json = files.get("tokenizer.json");
  if (json === undefined) throw new HeedError("BAD_FILE", "train: a checkpoint must hold tokenizer.json; got none.");
  if (tokenizer.type !== "file") return files;
  // The checkpoint has all that is needed: the recipe's own file may have been moved away.
  const own = await readText(tokenizer.path).catch(() => json);
  if (own === json) return files;
  throw new HeedError(
    "USAGE",
    `train: a run that is resumed must keep the tokenizer that its weights were trained for; got another in ${tokenizer.path} than its checkpoint has. Put the file back, or begin another run in another output.`,
  );
}

/** Opens the tokenizer of {@link tokenizerFiles}. */
export function openTokenizerFiles(files: ReadonlyMap<string, string>): Tokenizer {
  const json: unknown = JSON.parse(files.get("tokenizer.json") ?? "null");
  const config = files.get("tokenizer_config.json");
  return loadTokenizer(json, config === undefined ? undefined : JSON.parse(config));
}

/** Ids of a long text, line by line, because tokenizers take time and memory by the length of what they are given at once. */
function encodeText(tokenizer: Tokenizer, text: string): Uint32Array {
  const parts: number[][] = [];
  for (const line of linesWithEnds(text)) parts.push(tokenizer.encode(line, { addSpecialTokens: false }));
  return Uint32Array.from(parts.flat());
}

function linesWithEnds(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

/** The recipe's config.json, whose vocabulary is the tokenizer's where it says nothing. Throws `USAGE` where it is smaller. */
export function configOf({ model }: Recipe, { vocabSize }: Tokenizer): Readonly<Record<string, unknown>> {
  for (const name of ["vocab_size", "decoder_vocab_size"]) {
    const size = model[name];
    if (typeof size !== "number" || size >= vocabSize) continue;
    throw new HeedError(
      "USAGE",
      `train: model.${name} must be at least ${vocabSize}, the tokenizer's size; got ${size}. Leave it out, which takes the tokenizer's, or train a smaller tokenizer (tokenizer.size).`,
    );
  }
  return { vocab_size: vocabSize, ...model };
}

/** Throws `USAGE` for a share of a text that is read bit by bit. */
export function checkStreamedShare(share: number | undefined): void {
  if (share === undefined) return;
  throw new HeedError(
    "USAGE",
    `train: a share of a text that is streamed can't be held out; got validationShare ${share} beside buffer. Name a file as data.validation.`,
  );
}

/** Throws `USAGE` for sequences that are longer than a model's context. */
export function checkLength({ length }: Recipe, contextLength: number): void {
  if (length <= contextLength) return;
  throw new HeedError(
    "USAGE",
    `train: length may be at most the model's context of ${contextLength} tokens; got ${length}. Shorten it, or raise the positions in the recipe's model.`,
  );
}
