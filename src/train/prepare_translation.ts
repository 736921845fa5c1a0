import { HeedError } from "../core/errors.ts";
import { openModel } from "../models/registry.ts";
import { EpochBatches, orderedBatches } from "./batches.ts";
import { everydayCorpus } from "./corpus/everyday.ts";
import type { TokenItem } from "./item_batches.ts";
import { translationObjective } from "./losses.ts";
import { checkPairs, pairBatching } from "./pairs.ts";
import { checkLength, openTokenizerFiles, type Prepared, type ReadText, tokenizerFiles } from "./prepare.ts";
import type { Recipe } from "./recipe.ts";

/** A sentence and its translation. */
interface TextPair {
  readonly source: string;
  readonly target: string;
}

/** Reads parallel text and makes batches of it; see `prepareRecipe`. */
export async function prepareTranslation(recipe: Recipe, readText: ReadText): Promise<Prepared> {
  const { train, held } = await readPairs(recipe, readText);
  const texts = function* () {
    for (const { source, target } of train) {
      yield source;
      yield target;
    }
  };
  const files = await tokenizerFiles(recipe, readText, texts);
  const tokenizer = openTokenizerFiles(files);
  const config = { vocab_size: tokenizer.vocabSize, ...recipe.model };
  const opened = openModel(config);
  if (opened.kind !== "encoder-decoder") {
    throw new HeedError("USAGE", `train: task translation needs an encoder–decoder; got ${opened.model.family}.`);
  }
  checkLength(recipe, Math.min(opened.model.facts.contextLength, opened.model.facts.encoder.contextLength));
  const encode = (pairs: readonly TextPair[]): TokenItem[] =>
    pairs.map(({ source, target }) => ({ ids: tokenizer.encode(source), targets: tokenizer.encode(target) }));
  const { batch, length, seed = 0 } = recipe;
  const batching = pairBatching({ batch, length, decoderStart: opened.model.facts.decoderStart });
  const [items, heldOut] = [encode(train), encode(held)];
  checkPairs(items, length);
  return {
    config,
    model: opened.model,
    tokenizerFiles: files,
    tokenizer,
    data: new EpochBatches(items, batching, seed),
    validation: heldOut.length > 0 ? (most) => orderedBatches(heldOut, batching, most) : undefined,
    objective: (weights) => translationObjective(opened.model, weights, { labelSmoothing: recipe.labelSmoothing }),
  };
}

async function readPairs({ data }: Recipe, readText: ReadText): Promise<{ train: TextPair[]; held: TextPair[] }> {
  if ("grammar" in data) {
    const { train, validation } = everydayCorpus({ seed: data.seed, train: data.pairs });
    const pairs = (all: readonly { zh: string; en: string }[]) => all.map(({ zh, en }) => ({ source: zh, target: en }));
    return { train: pairs(train), held: pairs(validation) };
  }
  if (!("source" in data)) {
    throw new HeedError("USAGE", "train: task translation needs data.source and data.target, or data.grammar.");
  }
  const { validationSource, validationTarget } = data;
  if ((validationSource === undefined) !== (validationTarget === undefined)) {
    throw new HeedError("USAGE", "train: validationSource and validationTarget belong together; got one of them.");
  }
  const train = await readSides(data.source, data.target, readText);
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
