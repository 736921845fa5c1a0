import { HeedError } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { Model, WeightTree } from "../models/family.ts";
import { openModel } from "../models/registry.ts";
import { loadTokenizer, type Tokenizer } from "../text/tokenizer.ts";
import type { BatchSource } from "./batches.ts";
import { initialise } from "./initialise.ts";
import { languageModelObjective } from "./losses.ts";
import type { Batch, Objective } from "./objective.ts";
import type { Recipe } from "./recipe.ts";
import { trainTokenizer } from "./tokenizer/train_tokenizer.ts";
import { consecutiveWindows, RandomWindows } from "./windows.ts";

/** What a recipe trains: a model, its tokenizer, and batches. */
export interface Prepared {
  /** config.json of the result. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly model: Model;
  /** Files of the tokenizer by their names. */
  readonly tokenizerFiles: ReadonlyMap<string, string>;
  readonly tokenizer: Tokenizer;
  readonly data: BatchSource;
  /** All held-out batches, or at most so many of them. Absent where nothing is held out. */
  readonly validation: ((most?: number) => Iterable<Batch>) | undefined;
  objective(weights: WeightTree<Tensor>): Objective;
}

/** Reads a text file that a recipe names. */
export type ReadText = (path: string) => Promise<string>;

/** Share of a text that is held out where a recipe does not say. */
const VALIDATION_SHARE = 0.1;

/** Reads a recipe's data and makes its tokenizer and batches. Throws `USAGE`, `BAD_FILE` and `UNSUPPORTED`. */
export async function prepareRecipe(recipe: Recipe, readText: ReadText): Promise<Prepared> {
  if (recipe.task === "translation") {
    const { prepareTranslation } = await import("./prepare_translation.ts");
    return prepareTranslation(recipe, readText);
  }
  return prepareLanguageModel(recipe, readText);
}

async function prepareLanguageModel(recipe: Recipe, readText: ReadText): Promise<Prepared> {
  const { data } = recipe;
  if (!("text" in data)) throw new HeedError("USAGE", "train: task language-model needs data.text, a text file.");
  const text = await readText(data.text);
  const held = data.validation === undefined ? undefined : await readText(data.validation);
  const files = await tokenizerFiles(recipe, readText, () => linesWithEnds(text));
  const tokenizer = openTokenizerFiles(files);
  const config = { vocab_size: tokenizer.vocabSize, ...recipe.model };
  const opened = openModel(config);
  if (opened.kind !== "decoder") {
    throw new HeedError("USAGE", `train: task language-model needs a causal decoder; got ${opened.model.family}.`);
  }
  checkLength(recipe, opened.model.facts.contextLength);
  // Split by characters, as nanoGPT does, so that the held-out text is the same whatever the tokenizer.
  const share = held === undefined ? (data.validationShare ?? VALIDATION_SHARE) : 0;
  const cut = Math.floor(text.length * (1 - share));
  const ids = encodeText(tokenizer, text.slice(0, cut));
  const heldIds = encodeText(tokenizer, held ?? text.slice(cut));
  const sizes = { batch: recipe.batch, length: recipe.length };
  return {
    config,
    model: opened.model,
    tokenizerFiles: files,
    tokenizer,
    data: new RandomWindows(ids, sizes, recipe.seed ?? 0),
    validation: heldIds.length > 1 ? (most) => consecutiveWindows(heldIds, sizes, most) : undefined,
    objective: (weights) => languageModelObjective(opened.model, weights, { labelSmoothing: recipe.labelSmoothing }),
  };
}

/** Fresh parameters as a recipe asks for them. The caller disposes the tree. */
export function initialiseRecipe(device: Device, model: Model, recipe: Recipe): WeightTree<Tensor> {
  return initialise(device, model, { seed: recipe.seed ?? 0, ...recipe.initialise });
}

/** The tokenizer's files that a recipe asks for; `texts` gives what one is trained on. */
export async function tokenizerFiles(
  { tokenizer }: Recipe,
  readText: ReadText,
  texts: () => Iterable<string>,
): Promise<Map<string, string>> {
  if (tokenizer.type === "file") return new Map([["tokenizer.json", await readText(tokenizer.path)]]);
  const { size, ...options } = tokenizer;
  const files = await trainTokenizer(texts(), { ...options, ...(size === undefined ? {} : { vocabSize: size }) });
  return new Map([
    ["tokenizer.json", `${JSON.stringify(files.tokenizer, null, 1)}\n`],
    ["tokenizer_config.json", `${JSON.stringify(files.config, null, 2)}\n`],
  ]);
}

/** Opens the tokenizer of {@link tokenizerFiles}. */
export function openTokenizerFiles(files: ReadonlyMap<string, string>): Tokenizer {
  const json: unknown = JSON.parse(files.get("tokenizer.json") ?? "null");
  const config = files.get("tokenizer_config.json");
  return loadTokenizer(json, config === undefined ? undefined : JSON.parse(config));
}

/** Ids of a long text, line by line, because tokenizers take time and memory by the length of what they are given at once. */
export function encodeText(tokenizer: Tokenizer, text: string): Uint32Array {
  const parts: number[][] = [];
  for (const line of text.match(/[^\n]*\n|[^\n]+$/g) ?? [])
    parts.push(tokenizer.encode(line, { addSpecialTokens: false }));
  return Uint32Array.from(parts.flat());
}

function linesWithEnds(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

/** Throws `USAGE` for sequences that are longer than a model's context. */
export function checkLength({ length }: Recipe, contextLength: number): void {
  if (length <= contextLength) return;
  throw new HeedError(
    "USAGE",
    `train: length may be at most the model's context of ${contextLength} tokens; got ${length}. Shorten it, or raise the positions in the recipe's model.`,
  );
}
