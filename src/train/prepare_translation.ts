import { HeedError } from "../core/errors.ts";
import { EpochBatches, type ItemStream, orderedBatches, StreamedBatches } from "./batches.ts";
import { everydayCorpus } from "./corpus/everyday.ts";
import type { TokenItem } from "./item_batches.ts";
import { checkPairs } from "./pairs.ts";
import { badLine } from "./data/lines.ts";
import { readParallelLines, type TextPair } from "./data/readers.ts";
import {
  checkLength,
  configOf,
  openData,
  openTokenizerFiles,
  type Prepared,
  type ReadText,
  type RecipeFiles,
  tokenizerFiles,
} from "./prepare.ts";
import type { Recipe } from "./recipe.ts";
import { openTask } from "./tasks.ts";

/** Reads parallel text and makes batches of it; see `prepareRecipe`. */
export async function prepareTranslation(recipe: Recipe, from: RecipeFiles): Promise<Prepared> {
  const stream = "source" in recipe.data && recipe.data.buffer !== undefined ? recipe.data : undefined;
  const { train, held } = await readPairs(recipe, from.readText, stream !== undefined);
  const first = stream ? await firstPairs(stream, from) : train;
  const texts = function* () {
    for (const { source, target } of first) {
      yield source;
      yield target;
    }
  };
  const files = await tokenizerFiles(recipe, from, texts);
  const tokenizer = openTokenizerFiles(files);
  const {
    config,
    model,
    network,
    contextLength,
    objective,
    batching: batchingOf,
  } = openTask("translation", configOf(recipe, tokenizer));
  checkLength(recipe, contextLength);
  const encode = (pairs: readonly TextPair[]): TokenItem[] =>
    pairs.map(({ source, target }) => ({ ids: tokenizer.encode(source), targets: tokenizer.encode(target) }));
  const { batch, length, seed = 0 } = recipe;
  const batching = batchingOf({ tokenizer, batch, length });
  const [items, heldOut] = [encode(train), encode(held)];
  checkPairs(items, length);
  return {
    ...{ config, model, network, tokenizerFiles: files, tokenizer },
    data: stream
      ? new StreamedBatches(pairStream(stream, from, { encode, length }), batching, seed)
      : new EpochBatches(items, batching, seed),
    validation: heldOut.length > 0 ? (most) => orderedBatches(heldOut, batching, most) : undefined,
    objective: (weights) => objective(weights, { labelSmoothing: recipe.labelSmoothing }),
  };
}

type ParallelData = Extract<Recipe["data"], { readonly source: string }>;

/** Parallel text that is read a buffer of lines at a time. */
function pairStream(
  { source, target, buffer = 1, skipBad = false }: ParallelData,
  from: RecipeFiles,
  { encode, length }: { readonly encode: (pairs: readonly TextPair[]) => TokenItem[]; readonly length: number },
): ItemStream<TokenItem> {
  return {
    buffer,
    async *read(afterLine) {
      const files = [await openData(source, from), await openData(target, from)] as const;
      for await (const { line, pair } of readParallelLines(...files, { afterLine, skipBad })) {
        const items = encode([pair]);
        const isLong = items.some(({ ids, targets }) => Math.max(ids.length, targets.length) > length);
        if (isLong && !skipBad)
          throw badLine(files[0], line, `a sentence may have ${length} tokens, its end among them`, "more");
        yield { line, items: isLong ? [] : items };
      }
    },
  };
}

/** What the tokenizer of a stream is trained on: as much as is held of it at a time. */
async function firstPairs(
  { source, target, buffer = 1, skipBad }: ParallelData,
  from: RecipeFiles,
): Promise<TextPair[]> {
  const pairs: TextPair[] = [];
  const files = [await openData(source, from), await openData(target, from)] as const;
  for await (const { pair } of readParallelLines(...files, { skipBad })) {
    pairs.push(pair);
    if (pairs.length >= buffer) break;
  }
  return pairs;
}

/** All pairs; of a stream those that are held out. Throws `USAGE` for data of another kind. */
export async function readPairs(
  { task, data }: Pick<Recipe, "task" | "data">,
  readText: ReadText,
  isStreamed: boolean,
): Promise<{ train: TextPair[]; held: TextPair[] }> {
  if ("grammar" in data) {
    const { train, validation } = everydayCorpus({ seed: data.seed, train: data.pairs });
    const pairs = (all: readonly { zh: string; en: string }[]) => all.map(({ zh, en }) => ({ source: zh, target: en }));
    return { train: pairs(train), held: pairs(validation) };
  }
  if (!("source" in data)) {
    throw new HeedError(
      "USAGE",
      `train: task ${task} needs data.source and data.target, data.grammar, or data.examples.`,
    );
  }
  const { validationSource, validationTarget } = data;
  if ((validationSource === undefined) !== (validationTarget === undefined)) {
    throw new HeedError("USAGE", "train: validationSource and validationTarget belong together; got one of them.");
  }
  const train = isStreamed ? [] : await readSides(data.source, data.target, readText);
  const held =
    validationSource === undefined || validationTarget === undefined
      ? []
      : await readSides(validationSource, validationTarget, readText);
  return { train, held };
}

/** Two files, line by line. Throws `BAD_FILE` where one is longer. */
async function readSides(sourcePath: string, targetPath: string, readText: ReadText): Promise<TextPair[]> {
  const [sources, targets] = [linesOf(await readText(sourcePath)), linesOf(await readText(targetPath))];
  if (sources.length !== targets.length) {
    throw new HeedError(
      "BAD_FILE",
      `data: parallel files must have as many lines as each other; got ${sources.length} in ${sourcePath} and ${targets.length} in ${targetPath}.`,
    );
  }
  return sources.map((source, i) => ({ source, target: targets[i] ?? "" }));
}

function linesOf(text: string): string[] {
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  return lines;
}
