import { HeedError } from "../core/errors.ts";
import type { Source } from "../core/source.ts";
import type { Device } from "../gpu/device.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import type { Decoder, EncoderDecoder, Model } from "../models/family.ts";
import { adaptLinears, linearModules } from "../models/lora.ts";
import type { LoadedWeights } from "../models/load.ts";
import { encodeLora } from "../models/lora_files.ts";
import { mergeLoraLayer } from "../models/lora_merge.ts";
import { readGenerationDefaults } from "../tasks/generation_options.ts";
import { TextModel } from "../tasks/text_model.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { type FinetuneTask, openForFinetuning, type OpenedModel } from "./finetune_models.ts";
import { ItemBatches, type ItemBatchOptions, orderedItems, type TokenItem } from "./item_batches.ts";
import { createLora, type CreateLoraOptions, type Lora, withLora } from "./lora.ts";
import type { Batch } from "./objective.ts";
import type { OptimizerSpec } from "./optimizer.ts";
import { orderedPairs, PairBatches } from "./pairs.ts";
import { type Parameter, parametersOf } from "./parameters.ts";
import { encodeModel } from "./save.ts";
import type { Schedule } from "./schedule.ts";
import { maskWords } from "./task_items.ts";
import { Trainer, type TrainingProgress } from "./trainer.ts";
import { encodeState, encodeTensors, restoreState, restoreTensors } from "./training_state.ts";
import { TrainingStep } from "./training_step.ts";
import type { BatchSource } from "./windows.ts";

/** How a checkpoint is tuned. */
export interface FinetuneOptions {
  readonly task: FinetuneTask;
  readonly tokenizer: Tokenizer;
  readonly items: readonly TokenItem[];
  /** Held out, for evaluations. */
  readonly validation?: readonly TokenItem[];
  /** Names of classes or labels, in the order of their numbers. */
  readonly labels?: readonly string[];
  /** `all`, the fresh `head` alone, or parameters whose names match a pattern. With `lora` only a fresh head is trained beside it. Default `all`. */
  readonly train?: "all" | "head" | RegExp;
  readonly lora?: CreateLoraOptions;
  readonly batch: number;
  readonly length: number;
  readonly steps: number;
  readonly optimizer: OptimizerSpec;
  readonly schedule: Schedule;
  /** Share of words that masked-lm hides. Default 0.15. */
  readonly maskRate?: number;
  readonly dropout?: { readonly hidden?: number; readonly attention?: number };
  readonly evaluateEvery?: number;
  readonly patience?: number;
  readonly seed?: number;
  /** Goes on from what {@link Finetuning.checkpoint} gave, on the same model, data and options. */
  readonly from?: Source;
  readonly signal?: AbortSignal;
}

/** Files of a checkpoint that tuning leaves as they are. */
const KEPT_FILES = [
  ...["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt"],
  ...["vocab.json", "merges.txt", "source.spm", "target.spm", "spiece.model", "tokenizer.model"],
  ...["sentencepiece.bpe.model", "generation_config.json"],
];

/** What is trained, in a checkpoint. */
const TRAINED = "trained.safetensors";

/** A checkpoint that is being tuned: an async iterator of updates. Whoever opened it disposes it. */
export class Finetuning implements AsyncIterable<TrainingProgress> {
  readonly trainer: Trainer;
  readonly lora: Lora | undefined;
  /** config.json of the result. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly #device: Device;
  readonly #checkpoint: Checkpoint;
  readonly #tokenizer: Tokenizer;
  readonly #opened: OpenedModel;
  readonly #step: TrainingStep;
  readonly #models = new Set<TextModel>();

  private constructor(device: Device, checkpoint: Checkpoint, opened: OpenedModel, options: FinetuneOptions) {
    const { validation, steps, schedule, optimizer, dropout, seed = 0, signal } = options;
    this.#device = device;
    this.#checkpoint = checkpoint;
    this.#tokenizer = options.tokenizer;
    this.#opened = opened;
    this.config = opened.config;
    const modules = options.lora && linearModules(opened.model, opened.body, opened.config);
    this.lora = modules && createLora(device, modules, { seed, ...options.lora });
    const objective = this.lora ? withLora(opened.objective, this.lora) : opened.objective;
    const parameters = [...(this.lora?.parameters ?? []), ...trainedParameters(opened, options)];
    this.#step = new TrainingStep(device, { objective, parameters, optimizer, dropout, seed });
    const { data, ordered } = batchesOf(opened, options);
    const held = validation && validation.length > 0 ? { validation: () => ordered(validation) } : {};
    const { evaluateEvery, patience } = options;
    this.trainer = new Trainer({ step: this.#step, data, steps, schedule, evaluateEvery, patience, signal, ...held });
  }

  /** Loads a checkpoint and makes ready to tune it. Throws `USAGE`, `BAD_FILE`, `UNSUPPORTED`, with nothing left allocated. */
  static async open(device: Device, checkpoint: Checkpoint, options: FinetuneOptions): Promise<Finetuning> {
    const opened = await openForFinetuning(device, checkpoint, options);
    try {
      const tuning = new Finetuning(device, checkpoint, opened, options);
      try {
        if (options.from) await tuning.#restore(options.from);
        return tuning;
      } catch (error) {
        await tuning.#step.dispose();
        tuning.lora?.dispose();
        throw error;
      }
    } catch (error) {
      opened.dispose();
      throw error;
    }
  }

  /** One update a turn; see {@link Trainer}. */
  [Symbol.asyncIterator](): AsyncGenerator<TrainingProgress, void, undefined> {
    return this.trainer[Symbol.asyncIterator]();
  }

  /** Mean loss over what is held out; undefined where nothing is. */
  async evaluate(): Promise<number | undefined> {
    return this.trainer.options.validation && this.trainer.evaluate();
  }

  /**
   * The language model that is tuned, over the very weights, its adapter beside them: what it generates, and the attention that it shows, are
   * those of the last update. Disposing it leaves the weights; {@link files} ends it where an adapter is merged. Throws `UNSUPPORTED` for
   * other models.
   */
  async model(): Promise<TextModel> {
    const { model, tree } = this.#opened;
    if (!isDecoder(model)) {
      throw new HeedError(
        "UNSUPPORTED",
        `finetune: only a language model can be run while it is tuned; got ${model.family}.`,
      );
    }
    const { config, generationConfig, source } = this.#checkpoint;
    const { lora } = this;
    const parts = {
      ...{ source: source.description, tokenizer: this.#tokenizer },
      defaults: readGenerationDefaults(config, generationConfig),
    };
    const weights: LoadedWeights = {
      ...{ tree, dtype: "f32", dispose: () => {} },
      bytes: parametersOf(model.rules, tree).reduce((sum, { tensor }) => sum + tensor.sizeBytes, 0),
      ...(lora ? { onRecord: (rec) => adaptLinears(rec, lora.layers, { value: (tensor) => rec.weight(tensor) }) } : {}),
    };
    const opened = await TextModel.over(this.#device, model, weights, parts);
    this.#models.add(opened.whenDisposed((disposed) => this.#models.delete(disposed)));
    return opened;
  }

  /** adapter_config.json and adapter_model.safetensors, where an adapter is trained. */
  async adapterFiles(base: string): Promise<Map<string, Uint8Array[]>> {
    if (!this.lora) throw new HeedError("USAGE", "finetune: an adapter was not trained. Ask for files() instead.");
    return encodeLora(this.lora.layers, this.lora.config, { base, taskType: this.#opened.peftTask });
  }

  /**
   * config.json, model.safetensors, and what the checkpoint has for a tokenizer; an adapter is merged into the weights, after which training
   * can't go on.
   */
  async files(dtype: "f32" | "f16" = "f32"): Promise<Map<string, readonly Uint8Array[] | string>> {
    if (this.lora) await this.#endModels();
    for (const { module, a, b, scale } of this.lora?.layers ?? []) {
      const [left, right] = [new Float32Array(await a.read()), new Float32Array(await b.read())];
      await mergeLoraLayer({ module, a: left, b: right }, scale);
    }
    if (this.lora) this.lora.dispose();
    const { rules, tree } = this.#opened;
    const files = new Map<string, readonly Uint8Array[] | string>([
      ["config.json", `${JSON.stringify(this.config, null, 2)}\n`],
      ["model.safetensors", await encodeModel(rules, tree, { dtype })],
    ]);
    for (const name of KEPT_FILES) {
      const file = await this.#checkpoint.source.open(name);
      if (file) files.set(name, [await file.read(0, file.sizeBytes)]);
    }
    return files;
  }

  /** Everything that tuning goes on from, beside the model that it began with: what is trained, moments, RNG and data position. */
  async checkpoint(): Promise<Map<string, readonly Uint8Array[] | string>> {
    const trained = new Map(this.#step.optimizer.parameters.map(({ name, tensor }) => [name, tensor]));
    return new Map([[TRAINED, await encodeTensors(trained)], ...(await encodeState(this.#step, this.trainer))]);
  }

  async #restore(from: Source): Promise<void> {
    const trained = new Map(this.#step.optimizer.parameters.map(({ name, tensor }) => [name, tensor]));
    await restoreTensors(from, TRAINED, trained);
    await restoreState(from, this.#step, this.trainer);
  }

  /** Frees models, plans, moments, adapter and weights. */
  async dispose(): Promise<void> {
    await this.#endModels();
    await this.#step.dispose();
    this.lora?.dispose();
    this.#opened.dispose();
  }

  async #endModels(): Promise<void> {
    await Promise.allSettled([...this.#models].map((model) => model.dispose()));
  }
}

function isDecoder(model: Model): model is Decoder {
  return "hidden" in model && !("encode" in (model as Partial<EncoderDecoder>));
}

/** What is trained beside an adapter: nothing of a loaded model, a fresh head always. */
function trainedParameters(
  { rules, tree, head }: OpenedModel,
  { train = "all", lora }: FinetuneOptions,
): readonly Parameter[] {
  if (lora || train === "head") return head;
  const all = parametersOf(rules, tree);
  return train === "all" ? all : all.filter(({ name }) => train.test(name));
}

/** Batches for training, and of what is held out. */
function batchesOf(
  opened: OpenedModel,
  options: FinetuneOptions,
): { readonly data: BatchSource; ordered(items: readonly TokenItem[]): Iterable<Batch> } {
  const { items, batch, length, seed = 0 } = options;
  const { decoderStart } = opened;
  if (decoderStart === undefined) {
    const sizes = batchOptions(opened, options);
    return { data: new ItemBatches(items, sizes, seed), ordered: (held) => orderedItems(held, sizes) };
  }
  const sizes = { batch, length, decoderStart };
  const pairs = (all: readonly TokenItem[]) => all.map(({ ids, targets }) => ({ source: ids, target: targets }));
  return { data: new PairBatches(pairs(items), sizes, seed), ordered: (held) => orderedPairs(pairs(held), sizes) };
}

/** Targets of an item, where they are not one a token. */
const TARGETS_EACH: Readonly<Partial<Record<FinetuneTask, number>>> = { classification: 1, answer: 2 };

function batchOptions({ inputs }: OpenedModel, options: FinetuneOptions): ItemBatchOptions {
  const { task, batch, length, tokenizer, maskRate } = options;
  const each = TARGETS_EACH[task];
  const sizes = { batch, length, inputs, ...(each === undefined ? {} : { targetsEach: each }) };
  return task === "masked-lm" ? { ...sizes, vary: maskWords(tokenizer, maskRate) } : sizes;
}
