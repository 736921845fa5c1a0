import { HeedError } from "../core/errors.ts";
import { EpochBatches, type ItemStream, orderedBatches, StreamedBatches } from "./batches.ts";
import {
  type Examples,
  gatherLines,
  knownLabels,
  pairFields,
  pairMaker,
  readExamples,
  type ReadExamplesOptions,
  readExampleTexts,
  readSplitExamples,
  skippedOf,
  streamExamples,
} from "./examples.ts";
import type { TokenItem } from "./item_batches.ts";
import {
  checkLength,
  checkStreamedShare,
  configOf,
  openData,
  openTokenizerFiles,
  type Prepared,
  type RecipeFiles,
  SKIP_FIELD,
  tokenizerFiles,
  VALIDATION_SHARE,
} from "./prepare.ts";
import { openPairs, pairItems, type Pairs, pairTexts } from "./prepare_translation.ts";
import type { Recipe } from "./recipe.ts";
import { openTask, type Task, taskRules } from "./tasks.ts";

/** A recipe's examples before there is a tokenizer. */
interface RecipeExamples {
  /** What a tokenizer is trained on. */
  texts(): Promise<string[]>;
  read(options: ReadExamplesOptions): Promise<{
    readonly items: readonly TokenItem[] | ItemStream<TokenItem>;
    readonly held: Examples | undefined;
  }>;
}

/** Reads examples of a task and makes batches of them; see `prepareRecipe`. */
export async function prepareExamples(recipe: Recipe, task: Task, from: RecipeFiles): Promise<Prepared> {
  const { batch, length, seed = 0, maskRate, labelSmoothing } = recipe;
  const examples = await openExamples(recipe, task, from);
  const files = await tokenizerFiles(recipe, from, () => examples.texts());
  const tokenizer = openTokenizerFiles(files);
  const given = configOf(recipe, tokenizer);
  const known = knownLabels(given, from.kept?.labels);
  const { names } = known;
  const reading = { task, tokenizers: { source: tokenizer }, length, ...known, isTraining: true };
  const { items, held } = await examples.read(reading);
  const opened = openTask(task, given, names.size > 0 ? [...names.keys()] : undefined);
  const { config, network } = opened;
  const model = { ...opened.model, rules: taskRules(opened) };
  checkLength(recipe, opened.contextLength);
  const batching = opened.batching({ tokenizer, batch, length, maskRate });
  return {
    ...{ config, model, network, tokenizerFiles: files, tokenizer, held },
    data: "read" in items ? new StreamedBatches(items, batching, seed) : new EpochBatches(items, batching, seed),
    validation: held && held.items.length > 0 ? (most) => orderedBatches(held.items, batching, most) : undefined,
    objective: (weights) => opened.objective(weights, { labelSmoothing }),
  };
}

async function openExamples({ data, ...recipe }: Recipe, task: Task, from: RecipeFiles): Promise<RecipeExamples> {
  if ("text" in data) {
    const { text, validationShare = VALIDATION_SHARE, ...rest } = data;
    const isWhole = data.validation === undefined && data.buffer === undefined;
    return fileExamples({ ...rest, examples: text, ...(isWhole ? { validationShare } : {}) }, task, from);
  }
  if ("examples" in data) return fileExamples(data, task, from);
  if (pairFields(task, { source: "", target: "" }).length === 0) {
    throw new HeedError("USAGE", `train: task ${task} needs data.examples, a file of examples; got pairs of texts.`);
  }
  if ("buffer" in data && data.buffer !== undefined) {
    throw new HeedError(
      "USAGE",
      `train: data.buffer streams two files side by side for translation alone; got task ${task}. Put the pairs into one file, data.examples.`,
    );
  }
  const { train, held } = await openPairs({ task: recipe.task, data }, from);
  return {
    texts: () => pairTexts(train),
    async read(options) {
      const make = pairMaker(options);
      const all = (pairs: Pairs): Promise<Examples> => gatherLines(pairItems(pairs, make));
      return { items: (await all(train)).items, held: held && (await all(held)) };
    },
  };
}

type FileData = Extract<Recipe["data"], { readonly examples: string }>;

async function fileExamples(data: FileData, task: Task, from: RecipeFiles): Promise<RecipeExamples> {
  const { validation, validationShare, buffer, skipBad } = data;
  if (buffer !== undefined) checkStreamedShare(validationShare);
  const file = await openData(data.examples, from);
  const how = { task, skipBad, skipName: SKIP_FIELD, note: from.onNote };
  const skipped = skippedOf(file, how);
  return {
    texts: () => readExampleTexts(file, { ...how, skipped, isFirst: true }, buffer),
    async read(options) {
      const reading = { ...options, ...how, skipped };
      const readHeld = async (): Promise<Examples | undefined> =>
        validation === undefined
          ? undefined
          : readExamples(await openData(validation, from), { ...options, ...how, isTraining: false });
      if (buffer !== undefined) return { items: await streamExamples(file, reading, buffer), held: await readHeld() };
      if (validationShare !== undefined) {
        const { train, held } = await readSplitExamples(file, reading, validationShare);
        return { items: train.items, held };
      }
      return { items: (await readExamples(file, reading)).items, held: await readHeld() };
    },
  };
}
