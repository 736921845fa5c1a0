import { HeedError } from "../core/errors.ts";
import { EpochBatches, type ItemLine, orderedBatches, StreamedBatches } from "./batches.ts";
import { everydayCorpus } from "./corpus/everyday.ts";
import { Misfit, refuseLine } from "./data/lines.ts";
import { readParallelLines, type TextPair } from "./data/readers.ts";
import type { TokenItem } from "./item_batches.ts";
import {
  checkLength,
  configOf,
  openData,
  openTokenizerFiles,
  type Prepared,
  type RecipeFiles,
  skipping,
  tokenizerFiles,
} from "./prepare.ts";
import type { Recipe } from "./recipe.ts";
import { openTask } from "./tasks.ts";

/** Reads parallel text and makes batches of it; see `prepareRecipe`. */
export async function prepareTranslation(recipe: Recipe, from: RecipeFiles): Promise<Prepared> {
  const buffer = "buffer" in recipe.data ? recipe.data.buffer : undefined;
  const { train, held } = await openPairs(recipe, from);
  const files = await tokenizerFiles(recipe, from, () => pairTexts(train, buffer));
  const tokenizer = openTokenizerFiles(files);
  const opened = openTask("translation", configOf(recipe, tokenizer));
  const { config, model, network, contextLength, objective } = opened;
  checkLength(recipe, contextLength);
  const { batch, length, seed = 0 } = recipe;
  const batching = opened.batching({ tokenizer, batch, length });
  const encode = ({ source, target }: TextPair): TokenItem[] => {
    const item = { ids: tokenizer.encode(source), targets: tokenizer.encode(target) };
    const [ids, targets] = [item.ids.length, item.targets.length];
    if (Math.max(ids, targets) <= length) return [item];
    throw new Misfit(
      `a sentence may have ${length} tokens (the recipe's length), its end among them`,
      `${ids} and ${targets}`,
    );
  };
  const items = buffer === undefined ? await allItems(train, encode) : [];
  const heldOut = held ? await allItems(held, encode) : [];
  return {
    ...{ config, model, network, tokenizerFiles: files, tokenizer },
    data:
      buffer === undefined
        ? new EpochBatches(items, batching, seed)
        : new StreamedBatches({ buffer, read: (afterLine) => pairItems(train, encode, afterLine) }, batching, seed),
    validation: heldOut.length > 0 ? (most) => orderedBatches(heldOut, batching, most) : undefined,
    objective: (weights) => objective(weights, { labelSmoothing: recipe.labelSmoothing }),
  };
}

/** Pairs of texts by their numbers: the lines of two files, or what a grammar writes. */
export interface Pairs {
  /** What comes after so many of them. Throws `BAD_FILE` for a line without a pair, or tells of it where such are left out. */
  read(afterLine?: number): AsyncIterable<{ readonly line: number; readonly pair: TextPair }>;
  /** Reports a pair that no example can be made of in the same way. */
  refuse(line: number, fault: Misfit): void;
  /** To be called when examples were made of all of them: tells of those that were left out. */
  end(): void;
}

/** What is made of pairs, line by line; `make` throws {@link Misfit} for one that nothing can be made of. */
export async function* pairItems<T>(
  pairs: Pairs,
  make: (pair: TextPair, line: number) => readonly T[],
  afterLine = 0,
): AsyncGenerator<ItemLine<T>> {
  for await (const { line, pair } of pairs.read(afterLine)) {
    let items: readonly T[] = [];
    try {
      items = make(pair, line);
    } catch (error) {
      if (!(error instanceof Misfit)) throw error;
      pairs.refuse(line, error);
    }
    yield { line, items };
  }
  pairs.end();
}

async function allItems(pairs: Pairs, encode: (pair: TextPair) => TokenItem[]): Promise<TokenItem[]> {
  const all: TokenItem[] = [];
  for await (const { items } of pairItems(pairs, encode)) all.push(...items);
  return all;
}

/** Both sides of the first `most` pairs, which a tokenizer is trained on. */
export async function pairTexts(pairs: Pairs, most = Number.POSITIVE_INFINITY): Promise<string[]> {
  const texts: string[] = [];
  for await (const { pair } of pairs.read()) {
    texts.push(pair.source, pair.target);
    if (texts.length >= 2 * most) break;
  }
  return texts;
}

/** Opens what a recipe trains on and what it holds out. Throws `USAGE` for data of another kind. */
export async function openPairs(
  { task, data }: Pick<Recipe, "task" | "data">,
  from: RecipeFiles,
): Promise<{ readonly train: Pairs; readonly held: Pairs | undefined }> {
  if ("grammar" in data) {
    const { train, validation } = everydayCorpus({ seed: data.seed, train: data.pairs });
    return { train: writtenPairs(train), held: writtenPairs(validation) };
  }
  if (!("source" in data)) {
    throw new HeedError(
      "USAGE",
      `train: task ${task} needs data.source and data.target, data.grammar, or data.examples.`,
    );
  }
  const { validationSource, validationTarget, skipBad = false } = data;
  if ((validationSource === undefined) !== (validationTarget === undefined)) {
    throw new HeedError("USAGE", "train: validationSource and validationTarget belong together; got one of them.");
  }
  const held =
    validationSource === undefined || validationTarget === undefined
      ? undefined
      : await filePairs([validationSource, validationTarget], skipBad, from);
  return { train: await filePairs([data.source, data.target], skipBad, from), held };
}

/** Two files side by side. */
async function filePairs(paths: readonly [string, string], skipBad: boolean, from: RecipeFiles): Promise<Pairs> {
  const [source, target] = [await openData(paths[0], from), await openData(paths[1], from)];
  const { reading, skipped } = skipping(source, skipBad, from);
  return {
    read: (afterLine = 0) => readParallelLines(source, target, { ...reading, afterLine }),
    refuse: (line, fault) => refuseLine(source, line, fault, reading),
    end: () => skipped.end(),
  };
}

function writtenPairs(pairs: readonly { readonly zh: string; readonly en: string }[]): Pairs {
  return {
    async *read() {
      for (const [i, { zh, en }] of pairs.entries()) yield { line: i + 1, pair: { source: zh, target: en } };
    },
    refuse(line, fault) {
      throw new HeedError("USAGE", `train: pair ${line} of the grammar: ${fault.message}. Change the recipe.`);
    },
    end() {},
  };
}
