import { checkOptionNames } from "../core/options.ts";
import type { Source } from "../core/source.ts";
import type { Device } from "../gpu/device.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { openCheckpoint } from "../formats/checkpoint.ts";
import type { WeightTree } from "../models/family.ts";
import { publishedRules } from "../models/head_names.ts";
import { loadWeights } from "../models/load.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { TextModel } from "../tasks/text_model.ts";
import type { Examples } from "./examples.ts";
import type { TunedModel } from "./finetune_models.ts";
import { type LiveModel, liveModel } from "./live_model.ts";
import { disposeTree, parametersOf } from "./parameters.ts";
import { initialiseRecipe, type OpenFile, type Prepared, prepareRecipe, type ReadText } from "./prepare.ts";
import { parseRecipe, type Recipe, taskOf } from "./recipe.ts";
import {
  checkSavedDType,
  configJson,
  encodeModel,
  type EncodeModelOptions,
  type PublishedForm,
  publishedForm,
} from "./save.ts";
import { checkSameRun, encodeRunRecord, type KeptRun, readKeptRun, recipeRecord } from "./run_record.ts";
import { type Task, writesText } from "./tasks.ts";
import { Trainer, type TrainingProgress } from "./trainer.ts";
import { encodeState, readingCheckpoint, restoreState } from "./training_state.ts";
import { TrainingStep } from "./training_step.ts";

/** Files by name, each as its chunks in order or as text. */
export type ModelFiles = ReadonlyMap<string, readonly Uint8Array[] | string>;

/** How a training is opened. */
export interface TrainingOptions {
  /** Gives the text of a file that the recipe names. */
  readonly readText: ReadText;
  /** Opens a file that the recipe streams (`data.buffer`). Default: `readText`, which holds it whole. */
  readonly openFile?: OpenFile;
  /** A checkpoint to go on from: what {@link Training.checkpoint} gave, as files or a folder. Default: fresh parameters. */
  readonly from?: Source;
  /** Stops before the next update with `ABORTED`. */
  readonly signal?: AbortSignal;
  /** Hears what a person should know of and is no fault, such as the lines that are left out (`data.skipBad`). */
  readonly onNote?: ((note: string) => void) | undefined;
}

/** The task of a recipe, as far as the compiler knows it. */
export type TaskOf<R> = R extends { readonly task: infer T } ? T : unknown;

/** The model that a recipe's task trains; of a task that is not known to the compiler, one of them, which its `kind` tells. */
export type TrainedModel<T> = T extends "language-model" ? TextModel : T extends Task ? TunedModel<T> : LiveModel;

/**
 * A recipe at work: an async iterator of updates. Between turns of the loop the weights that are trained can be generated with, looked
 * into, measured and saved. Whoever opened it disposes it.
 *
 * @example
 * const training = await openTraining(engine, recipe, { readText: (path) => fetch(path).then((r) => r.text()) });
 * const model = await training.model();
 * for await (const { step, loss } of training) {
 *   if (step % 100 === 0) console.log(step, loss, (await model.generate("ROMEO:", { maxTokens: 60 }).result).text);
 * }
 * const files = await training.files();
 * await training.dispose();
 */
export class Training<T = unknown> implements AsyncIterable<TrainingProgress> {
  readonly recipe: Recipe;
  readonly device: Device;
  readonly step: TrainingStep;
  readonly trainer: Trainer;
  readonly #prepared: Prepared;
  readonly #tree: WeightTree<Tensor>;
  readonly #models = new Set<LiveModel>();

  private constructor(
    device: Device,
    recipe: Recipe,
    prepared: Prepared,
    tree: WeightTree<Tensor>,
    signal: AbortSignal | undefined,
  ) {
    this.device = device;
    this.recipe = recipe;
    this.#prepared = prepared;
    this.#tree = tree;
    const { optimizer, dropout, recompute, precision, lossScale, seed, steps, schedule, accumulate } = recipe;
    const parameters = parametersOf(prepared.model.rules, tree);
    const objective = prepared.objective(tree);
    const how = { optimizer, dropout, recompute, precision, lossScale, seed };
    this.step = new TrainingStep(device, { objective, parameters, ...how });
    const { every: evaluateEvery, batches, patience, keep } = recipe.evaluate ?? {};
    const { validation, data } = prepared;
    const held = validation ? { validation: () => validation(batches) } : {};
    const when = { steps, schedule, accumulate, evaluateEvery, patience, keep, signal };
    try {
      this.trainer = new Trainer({ step: this.step, data, ...when, ...held });
    } catch (error) {
      this.step.optimizer.dispose();
      throw error;
    }
  }

  /**
   * Reads data, makes the tokenizer, and draws or loads the parameters. Throws `USAGE` for a recipe that is not understood in full,
   * `BAD_FILE` and `UNSUPPORTED`.
   */
  static async open<const R>(device: Device, recipe: R, options: TrainingOptions): Promise<Training<TaskOf<R>>> {
    const { from, signal } = options;
    const parsed = parseRecipe(recipe);
    const kept = from && (await readKept(from, parsed));
    const prepared = await prepareRecipe(parsed, { ...options, kept });
    if (kept?.config) checkSameRun("train", { model: kept.config }, { model: savedConfig(prepared.config) });
    const tree = from
      ? await readingCheckpoint(from, async () => {
          const checkpoint = await openCheckpoint(from);
          return (await loadWeights(device, prepared.model, checkpoint, { dtype: "f32" })).tree;
        })
      : initialiseRecipe(device, prepared.model, parsed);
    let training: Training<TaskOf<R>> | undefined;
    try {
      training = new Training<TaskOf<R>>(device, parsed, prepared, tree, signal);
      const { step, trainer } = training;
      if (from) await readingCheckpoint(from, () => restoreState(from, step, trainer));
      return training;
    } catch (error) {
      await (training ? training.dispose() : disposeTree(tree));
      throw error;
    }
  }

  get tokenizer(): Tokenizer {
    return this.#prepared.tokenizer;
  }

  /** What is held out of a file of examples, to score the result on. */
  get held(): Examples | undefined {
    return this.#prepared.held;
  }

  /** One update a turn; see {@link Trainer}. */
  [Symbol.asyncIterator](): AsyncGenerator<TrainingProgress, void, undefined> {
    return this.trainer[Symbol.asyncIterator]();
  }

  /** Mean loss over everything that is held out; undefined where nothing is. */
  async evaluate(): Promise<number | undefined> {
    const { validation } = this.#prepared;
    return validation && this.trainer.evaluate(validation());
  }

  /**
   * The model that is trained, over the very weights: a {@link TextModel}, a {@link Seq2SeqModel} for translation. What it computes, and the
   * attention that it shows, are those of the last update. Disposing it leaves the weights.
   */
  async model(): Promise<TrainedModel<T>> {
    const { config, tokenizer, network } = this.#prepared;
    const model = await liveModel(this.device, network, {
      ...{ tree: this.#tree, config, source: "training" },
      tokenizers: { source: tokenizer },
      generationConfig: this.recipe.generation,
    });
    this.#models.add(model);
    model.whenDisposed(() => this.#models.delete(model));
    // The recipe's task says which kind of network was prepared.
    return model as TrainedModel<T>;
  }

  /**
   * The model as the Hub's files: config.json, model.safetensors, tokenizer.json, generation_config.json. Its weights are those of the last
   * update, or, once training has ended, of the best evaluation where that is kept. Default dtype: the recipe's.
   */
  async files(options: { readonly dtype?: "f32" | "f16" } = {}): Promise<ModelFiles> {
    checkOptionNames("files", options, ["dtype"]);
    const { dtype = this.recipe.dtype ?? "f32" } = options;
    checkSavedDType(dtype);
    return this.#files({ dtype, form: publishedForm(this.#prepared.config) });
  }

  async #files({ dtype, read, form }: EncodeModelOptions & { readonly form?: PublishedForm }): Promise<ModelFiles> {
    const { model, config } = this.#prepared;
    const convert = form?.convert;
    const weights = await encodeModel(publishedRules(model, config), this.#tree, { dtype, read, convert });
    return new Map<string, readonly Uint8Array[] | string>([
      ["config.json", configJson(form?.config ?? config, { dtype })],
      ...this.#descriptions(),
      ["model.safetensors", weights],
    ]);
  }

  /**
   * Everything that training goes on from, as files: the model of the last update in f32 with its tokenizer, the best weights where they are kept,
   * the optimiser's moments, RNG and data position, and what of the recipe must stay (`run.json`).
   */
  async checkpoint(): Promise<ModelFiles> {
    return new Map<string, readonly Uint8Array[] | string>([
      ...(await this.#files({ dtype: "f32", read: this.trainer.readLast })),
      encodeRunRecord(recipeRecord(this.recipe)),
      ...(await encodeState(this.step, this.trainer)),
    ]);
  }

  /** Frees models, plans, moments and weights. */
  async dispose(): Promise<void> {
    await Promise.allSettled([...this.#models].map((model) => model.dispose()));
    await this.step.dispose();
    disposeTree(this.#tree);
  }

  #descriptions(): [string, string][] {
    const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
    const generation: [string, string] = ["generation_config.json", json(this.recipe.generation ?? {})];
    return [...(writesText(taskOf(this.recipe)) ? [generation] : []), ...this.#prepared.tokenizerFiles];
  }
}

/** What a recipe's run takes from its checkpoint. Throws `USAGE` for a recipe of another model, task or tokenizer, before its data is read. */
async function readKept(from: Source, recipe: Recipe): Promise<KeptRun> {
  const kept = await readingCheckpoint(from, () => readKeptRun(from, taskOf(recipe)));
  if (kept.record) checkSameRun("train", kept.record, recipeRecord(recipe));
  return kept;
}

/** A config.json as a checkpoint has it. */
function savedConfig(config: Readonly<Record<string, unknown>>): unknown {
  return JSON.parse(configJson(config, { dtype: "f32" }));
}
