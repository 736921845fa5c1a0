import { isPacked } from "../core/dtype.ts";
import { HeedError } from "../core/errors.ts";
import type { Source } from "../core/source.ts";
import type { Device } from "../gpu/device.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import { adaptLinears, linearModules } from "../models/lora.ts";
import { encodeLora } from "../models/lora_files.ts";
import { mergeLoraLayer } from "../models/lora_merge.ts";
import { openTokenizers } from "../text/open_tokenizers.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { EpochBatches, type ItemStream, orderedBatches, StreamedBatches } from "./batches.ts";
import type { Keep } from "./best_weights.ts";
import { type BaseDType, openForFinetuning, type OpenedModel, type TunedModel } from "./finetune_models.ts";
import { checkItems, type TokenItem } from "./item_batches.ts";
import { type LiveModel, liveModel } from "./live_model.ts";
import { createLora, type CreateLoraOptions, type Lora, withLora } from "./lora.ts";
import { checkPrecision, type Precision } from "./mixed.ts";
import type { OptimizerSpec } from "./optimizer.ts";
import { type Parameter, parametersOf, ruledTensors } from "./parameters.ts";
import {
  checkSameRun,
  encodeRunRecord,
  readKeptRun,
  type RunRecord,
  tokenizerDigest,
  weightsDigest,
} from "./run_record.ts";
import { checkSavedDType, configJson, encodeModel, publishedForm } from "./save.ts";
import type { Schedule } from "./schedule.ts";
import { checkSetting, type Task } from "./tasks.ts";
import { Trainer, type TrainingProgress } from "./trainer.ts";
import { encodeState, encodeTensors, readingCheckpoint, restoreState, restoreTensors } from "./training_state.ts";
import { TrainingStep } from "./training_step.ts";

/** How a checkpoint is tuned. */
export interface FinetuneOptions {
  readonly task: Task;
  readonly tokenizer: Tokenizer;
  /** All of them, or a stream of those that do not fit into memory. */
  readonly items: readonly TokenItem[] | ItemStream<TokenItem>;
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
  /** Share of tokens that are hidden; by default 0.15 for masked-lm and span-corruption, 0.5 for masked-translation. */
  readonly maskRate?: number;
  readonly dropout?: { readonly hidden?: number; readonly attention?: number };
  readonly labelSmoothing?: number;
  /** Batches whose gradients make one update. Default 1. */
  readonly accumulate?: number;
  /** Keep a block's intermediates only until the next block; backward computes them again. */
  readonly recompute?: boolean;
  /** Default `f32`; `mixed` needs a device with f16. */
  readonly precision?: Precision;
  /** How the weights beside an adapter are kept; other than `f32` needs `lora`. `auto`: as in the file, which may be quantised. Default `f32`. */
  readonly base?: BaseDType;
  readonly evaluateEvery?: number;
  readonly patience?: number;
  /**
   * Which weights it ends with: those of the last update, or of the lowest held-out loss, of which it then holds a copy in host memory (of what is
   * trained alone). Needs `evaluateEvery` and something held out. Default: `best` with `patience`, else `last`.
   */
  readonly keep?: Keep;
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

/** A checkpoint that is being tuned for a task: an async iterator of updates. Whoever opened it disposes it. */
export class Finetuning<T extends Task = Task> implements AsyncIterable<TrainingProgress> {
  readonly trainer: Trainer;
  readonly lora: Lora | undefined;
  /** config.json of the result. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly #device: Device;
  readonly #checkpoint: Checkpoint;
  readonly #options: FinetuneOptions;
  #opened: OpenedModel;
  readonly #step: TrainingStep;
  readonly #models = new Set<LiveModel>();
  /** Of the weights that it began with: read while they can be reached. */
  readonly #weights: Promise<string | undefined>;

  private constructor(device: Device, checkpoint: Checkpoint, opened: OpenedModel, options: FinetuneOptions) {
    const { items, tokenizer, validation = [], optimizer, dropout, recompute, precision, seed = 0 } = options;
    this.#device = device;
    this.#checkpoint = checkpoint;
    this.#weights = weightsDigest(checkpoint);
    this.#options = options;
    this.#opened = opened;
    this.config = opened.config;
    const modules = options.lora && linearModules(opened.model, opened.body, opened.config);
    this.lora = modules && createLora(device, modules, { seed, ...options.lora });
    const objective = this.lora ? withLora(opened.objective, this.lora) : opened.objective;
    const parameters = [...(this.lora?.parameters ?? []), ...trainedParameters(opened, options)];
    let step: TrainingStep | undefined;
    try {
      for (const all of ["read" in items ? [] : items, validation]) checkItems(all, objective.limits ?? {}, tokenizer);
      const how = { optimizer, dropout, recompute, precision, seed };
      step = new TrainingStep(device, { objective, parameters, ...how });
      this.#step = step;
      const batching = opened.batching(options);
      const data =
        "read" in items ? new StreamedBatches(items, batching, seed) : new EpochBatches(items, batching, seed);
      const held = validation.length > 0 ? { validation: () => orderedBatches(validation, batching) } : {};
      const { steps, schedule, accumulate, evaluateEvery, patience, keep, signal } = options;
      const when = { steps, schedule, accumulate, evaluateEvery, patience, keep, signal };
      this.trainer = new Trainer({ step, data, ...when, ...held });
    } catch (error) {
      step?.optimizer.dispose();
      this.lora?.dispose();
      throw error;
    }
  }

  /** Loads a checkpoint and makes ready to tune it. Throws `USAGE`, `BAD_FILE`, `UNSUPPORTED`, with nothing left allocated. */
  static async open<T extends Task>(
    device: Device,
    checkpoint: Checkpoint,
    options: FinetuneOptions & { readonly task: T },
  ): Promise<Finetuning<T>> {
    const { task, lora, maskRate, base = lora && isQuantised(checkpoint) ? "auto" : "f32" } = options;
    if (maskRate !== undefined) checkSetting(task, "maskRate", { command: "finetune", name: "maskRate" });
    if (!lora && base !== "f32") {
      throw new HeedError(
        "USAGE",
        `finetune: a base in ${base} stays as it is, so it needs lora; got none. Add lora (--lora), or keep the base in f32.`,
      );
    }
    checkPrecision(device, options.precision ?? "f32");
    const opened = await openForFinetuning(device, checkpoint, { ...options, base });
    try {
      const tuning = new Finetuning<T>(device, checkpoint, opened, options);
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
   * The model that is tuned, over the very weights, its adapter beside them: a {@link TextModel} for tasks of language models, a
   * {@link Seq2SeqModel} for those of encoder–decoders, an {@link EncoderModel} with the task's head for the others. What it computes, and the
   * attention that it shows, are those of the last update. Disposing it leaves the weights; {@link files} ends it where an adapter is merged.
   */
  async model(): Promise<TunedModel<T>> {
    const { network, tree, config } = this.#opened;
    const { source, generationConfig } = this.#checkpoint;
    const { lora } = this;
    const { tokenizer } = this.#options;
    const writes = network.kind === "encoder-decoder" ? await openTokenizers(this.#checkpoint) : undefined;
    const opened = await liveModel(this.#device, network, {
      ...{ tree, config, generationConfig, source: source.description },
      tokenizers: { source: tokenizer, ...(writes?.target ? { target: writes.target } : {}) },
      ...(lora ? { onRecord: (rec) => adaptLinears(rec, lora.layers, { value: (tensor) => rec.weight(tensor) }) } : {}),
    });
    this.#models.add(opened);
    opened.whenDisposed(() => this.#models.delete(opened));
    // The task says which kind of network was opened.
    return opened as TunedModel<T>;
  }

  /** adapter_config.json and adapter_model.safetensors, where an adapter is trained; a head that is trained beside it is in them (`modules_to_save`). */
  async adapterFiles(base: string): Promise<Map<string, Uint8Array[]>> {
    if (!this.lora) throw new HeedError("USAGE", "finetune: an adapter was not trained. Ask for files() instead.");
    if (typeof base !== "string" || base === "") {
      const got = base === "" ? "an empty one" : typeof base;
      throw new HeedError(
        "USAGE",
        `finetune: an adapter's files need the name of its base model; got ${got}. Give one.`,
      );
    }
    const { peftTask: taskType, rules, tree, head } = this.#opened;
    // A head is trained beside an adapter, which is of no use without it.
    const trained = new Set(head.map(({ tensor }) => tensor));
    const saved = ruledTensors(rules, tree)
      .filter(({ tensor }) => trained.has(tensor))
      .map(({ rule, tensor }) => ({ name: rule.from[0] ?? tensor.label, tensor }));
    return encodeLora(this.lora.layers, this.lora.config, { base, taskType, saved });
  }

  /** False for a base that was published in blocks of a GGUF file: an adapter of it can be saved, and not merged. */
  get canMerge(): boolean {
    return !isQuantised(this.#checkpoint);
  }

  /**
   * config.json, model.safetensors, and what the checkpoint has for a tokenizer; an adapter is merged into the weights, after which training
   * can't go on. The weights are those of the last update, or, once training has ended, of the best evaluation where that is kept. A base
   * that was kept smaller is loaded anew in f32 for it, as it was published. Throws `UNSUPPORTED` where {@link canMerge} is false.
   */
  async files(dtype: "f32" | "f16" = "f32"): Promise<Map<string, readonly Uint8Array[] | string>> {
    // First: merging can't be undone.
    checkSavedDType(dtype);
    if (this.lora) await this.#merge(this.lora);
    const { rules, tree } = this.#opened;
    const original = await this.#checkpoint.source.readText("config.json");
    const { config, convert } = publishedForm(this.config);
    const files = new Map<string, readonly Uint8Array[] | string>([
      ["config.json", configJson(config, { dtype, original })],
      ["model.safetensors", await encodeModel(rules, tree, { dtype, convert })],
    ]);
    for (const name of KEPT_FILES) {
      const file = await this.#checkpoint.source.open(name);
      if (file) files.set(name, [await file.read(0, file.sizeBytes)]);
    }
    return files;
  }

  async #merge(lora: Lora): Promise<void> {
    if (!this.canMerge) {
      throw new HeedError(
        "UNSUPPORTED",
        `finetune: an adapter can't be merged into ${this.#checkpoint.source.description}, which is quantised. Save adapterFiles(), and load them beside it.`,
      );
    }
    await this.#endModels();
    if ((this.#options.base ?? "f32") !== "f32") await this.#loadAgain();
    const { model, body, config } = this.#opened;
    const modules = new Map(linearModules(model, body, config).map((module) => [module.name, module]));
    for (const { module, a, b, scale } of lora.layers) {
      const [left, right] = [new Float32Array(await a.read()), new Float32Array(await b.read())];
      await mergeLoraLayer({ module: modules.get(module.name) ?? module, a: left, b: right }, scale);
    }
    lora.dispose();
  }

  /** Puts the base in f32 in the place of the smaller one, with the head as it was trained. */
  async #loadAgain(): Promise<void> {
    const head = await Promise.all(this.#opened.head.map(({ tensor }) => tensor.read()));
    await this.#step.dispose();
    this.#opened.dispose();
    this.#opened = await openForFinetuning(this.#device, this.#checkpoint, { ...this.#options, base: "f32" });
    for (const [i, { tensor }] of this.#opened.head.entries()) tensor.write(0, new Uint8Array(head[i] as ArrayBuffer));
  }

  /**
   * Everything that tuning goes on from, beside the model that it began with: what is trained as the last update left it, the best of it where
   * that is kept, moments, RNG and data position, and what must stay for them to mean the same (`run.json`).
   */
  async checkpoint(): Promise<Map<string, readonly Uint8Array[] | string>> {
    const trained = new Map(this.#step.optimizer.parameters.map(({ name, tensor }) => [name, tensor]));
    const { readLast: read } = this.trainer;
    return new Map([
      [TRAINED, await encodeTensors(trained, { read })],
      ...(await encodeState(this.#step, this.trainer)),
      encodeRunRecord(await this.#record()),
    ]);
  }

  async #record(): Promise<RunRecord> {
    // Targets are told of by the names of what is trained; dropout may change.
    const { dropout: _, targets: __, ...adapter } = this.lora?.config ?? { dropout: 0, targets: [] };
    const weights = await this.#weights;
    return {
      task: this.#options.task,
      model: JSON.parse(configJson(this.config, { dtype: "f32" })),
      tokenizer: tokenizerDigest(this.#options.tokenizer),
      ...(weights === undefined ? {} : { "base model": weights }),
      adapter: this.lora ? adapter : "none",
      trained: this.#step.optimizer.parameters.map(({ name }) => name),
    };
  }

  async #restore(from: Source): Promise<void> {
    const trained = new Map(this.#step.optimizer.parameters.map(({ name, tensor }) => [name, tensor]));
    await readingCheckpoint(from, async () => {
      const { record } = await readKeptRun(from, this.#options.task);
      const now = await this.#record();
      // Weights that could not be read, then or now, are no other weights.
      const known = { "base model": now["base model"] ?? record?.["base model"] };
      if (record) checkSameRun("finetune", { ...known, ...record }, { ...known, ...now });
      await restoreTensors(from, TRAINED, trained);
      await restoreState(from, this.#step, this.trainer);
    });
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

/** What is trained beside an adapter: nothing of a loaded model, a fresh head always. */
function trainedParameters(
  { rules, tree, head }: OpenedModel,
  { train = "all", lora }: FinetuneOptions,
): readonly Parameter[] {
  if (lora || train === "head") return head;
  const all = parametersOf(rules, tree);
  if (train === "all") return all;
  const matched = all.filter(({ name }) => train.test(name));
  if (matched.length > 0) return matched;
  const such = [all[0], all[Math.floor(all.length / 2)], all.at(-1)].map((parameter) => parameter?.name).join(", ");
  throw new HeedError(
    "USAGE",
    `finetune: a pattern must match the name of a parameter; ${train} matches none of ${all.length}, such as ${such}.`,
  );
}

/** True for a file of blocks, which are read as they are stored. */
export function isQuantised({ tensors }: Checkpoint): boolean {
  return [...tensors.values()].some(({ format }) => isPacked(format) && format !== "bf16");
}
