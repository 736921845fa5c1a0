import { HeedError } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import { type Decoder, mapRules, type Model, type WeightRule, type WeightTree } from "../models/family.ts";
import { type LoadedWeights, loadWeights } from "../models/load.ts";
import { linearModules } from "../models/lora.ts";
import { encodeLora } from "../models/lora_files.ts";
import { mergeLoraLayer } from "../models/lora_merge.ts";
import { openDecoder, openEncoder } from "../models/registry.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { encoderObjective } from "./encoder_objective.ts";
import { initialise } from "./initialise.ts";
import { ItemBatches, type ItemBatchOptions, orderedItems, type TokenItem } from "./item_batches.ts";
import { languageModelObjective } from "./losses.ts";
import { createLora, type CreateLoraOptions, type Lora, withLora } from "./lora.ts";
import type { Objective } from "./objective.ts";
import type { OptimizerSpec } from "./optimizer.ts";
import { disposeTree, type Parameter, parametersOf } from "./parameters.ts";
import { encodeModel } from "./save.ts";
import type { Schedule } from "./schedule.ts";
import { maskWords } from "./task_items.ts";
import { Trainer, type TrainingProgress } from "./trainer.ts";
import { TrainingStep } from "./training_step.ts";

/** What a checkpoint can be tuned for here. */
export const FINETUNE_TASKS = ["lm", "completion", "prefix-lm", "classification", "labels", "masked-lm"] as const;

/** One of {@link FINETUNE_TASKS}. */
export type FinetuneTask = (typeof FINETUNE_TASKS)[number];

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
  readonly signal?: AbortSignal;
}

/** A checkpoint that is being tuned: an async iterator of updates. Whoever opened it disposes it. */
export class Finetuning implements AsyncIterable<TrainingProgress> {
  readonly trainer: Trainer;
  readonly lora: Lora | undefined;
  /** config.json of the result. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly #opened: OpenedModel;
  readonly #step: TrainingStep;

  private constructor(device: Device, opened: OpenedModel, options: FinetuneOptions) {
    const { task, items, validation, steps, schedule, optimizer, dropout, seed = 0, signal } = options;
    this.#opened = opened;
    this.config = opened.config;
    const modules = options.lora && linearModules(opened.model, opened.body, opened.config);
    this.lora = modules && createLora(device, modules, { seed, ...options.lora });
    const objective = this.lora ? withLora(opened.objective, this.lora) : opened.objective;
    const parameters = [...(this.lora?.parameters ?? []), ...trainedParameters(opened, options)];
    this.#step = new TrainingStep(device, { objective, parameters, optimizer, dropout, seed });
    const sizes = batchOptions(task, opened, options);
    const data = new ItemBatches(items, sizes, seed);
    const held = validation && validation.length > 0 ? { validation: () => orderedItems(validation, sizes) } : {};
    const { evaluateEvery, patience } = options;
    this.trainer = new Trainer({ step: this.#step, data, steps, schedule, evaluateEvery, patience, signal, ...held });
  }

  /** Loads a checkpoint and makes ready to tune it. Throws `USAGE`, `BAD_FILE`, `UNSUPPORTED`, with nothing left allocated. */
  static async open(device: Device, checkpoint: Checkpoint, options: FinetuneOptions): Promise<Finetuning> {
    const isDecoder = ["lm", "completion", "prefix-lm"].includes(options.task);
    const opened = await (isDecoder ? openForText : openForHead)(device, checkpoint, options);
    try {
      return new Finetuning(device, opened, options);
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

  /** adapter_config.json and adapter_model.safetensors, where an adapter is trained. */
  async adapterFiles(base: string): Promise<Map<string, Uint8Array[]>> {
    if (!this.lora) throw new HeedError("USAGE", "finetune: an adapter was not trained. Ask for files() instead.");
    return encodeLora(this.lora.layers, this.lora.config, { base, taskType: this.#opened.peftTask });
  }

  /** config.json and model.safetensors; an adapter is merged into the weights, after which training can't go on. */
  async files(dtype: "f32" | "f16" = "f32"): Promise<Map<string, readonly Uint8Array[] | string>> {
    for (const { module, a, b, scale } of this.lora?.layers ?? []) {
      const [left, right] = [new Float32Array(await a.read()), new Float32Array(await b.read())];
      await mergeLoraLayer({ module, a: left, b: right }, scale);
    }
    if (this.lora) this.lora.dispose();
    const { rules, tree } = this.#opened;
    return new Map<string, readonly Uint8Array[] | string>([
      ["config.json", `${JSON.stringify(this.config, null, 2)}\n`],
      ["model.safetensors", await encodeModel(rules, tree, { dtype })],
    ]);
  }

  /** Frees plans, moments, adapter and weights. */
  async dispose(): Promise<void> {
    await this.#step.dispose();
    this.lora?.dispose();
    this.#opened.dispose();
  }
}

/** A checkpoint's model with the head that its task needs. */
interface OpenedModel {
  readonly model: Model;
  readonly config: Readonly<Record<string, unknown>>;
  /** Rules with the names that the result is saved under. */
  readonly rules: WeightTree<WeightRule>;
  readonly tree: WeightTree<Tensor>;
  /** The tree that `model.rules` are of. */
  readonly body: WeightTree<Tensor>;
  /** Fresh parameters. */
  readonly head: readonly Parameter[];
  readonly objective: Objective;
  readonly peftTask: string;
  readonly inputs: ItemBatchOptions["inputs"];
  dispose(): void;
}

async function openForText(device: Device, checkpoint: Checkpoint, { task }: FinetuneOptions): Promise<OpenedModel> {
  const model: Decoder = openDecoder(checkpoint.config);
  const weights = await loadWeights(device, model, checkpoint, { dtype: "f32" });
  const prefix = task === "prefix-lm";
  return {
    ...{ model, config: checkpoint.config, rules: model.rules, tree: weights.tree, body: weights.tree, head: [] },
    objective: languageModelObjective(model, weights.tree, { prefix }),
    peftTask: "CAUSAL_LM",
    inputs: prefix ? ["prefix_lengths"] : [],
    dispose: () => weights.dispose(),
  };
}

const HEADS: Readonly<Partial<Record<FinetuneTask, readonly [ending: string, peft: string]>>> = {
  classification: ["ForSequenceClassification", "SEQ_CLS"],
  labels: ["ForTokenClassification", "TOKEN_CLS"],
  "masked-lm": ["ForMaskedLM", "FEATURE_EXTRACTION"],
};

/** An encoder with its own head if it has the one that the task needs and as many labels, else with a fresh one. */
async function openForHead(device: Device, checkpoint: Checkpoint, options: FinetuneOptions): Promise<OpenedModel> {
  const [ending, peftTask] = HEADS[options.task] ?? ["", ""];
  const stem = stemOf(checkpoint.config);
  const config = headConfig(checkpoint.config, `${stem}${ending}`, options.labels);
  const encoder = openEncoder(config);
  const hasHead = sameHead(checkpoint.config, config);
  const base = hasHead ? encoder : openEncoder({ ...checkpoint.config, architectures: [`${stem}Model`] });
  const weights: LoadedWeights = await loadWeights(device, base, checkpoint, { dtype: "f32" });
  const { body, head: headRules } = encoder.rules as {
    readonly body: WeightTree<WeightRule>;
    readonly head: WeightTree<WeightRule>;
  };
  const loaded = weights.tree as { readonly body: WeightTree<Tensor>; readonly head: WeightTree<Tensor> };
  const fresh = hasHead ? undefined : initialise(device, { ...encoder, rules: headRules }, { seed: options.seed ?? 0 });
  const tree = { body: loaded.body, head: fresh ?? loaded.head };
  const [prefix = ""] = encoder.prefixes;
  const named = mapRules(body, (rule): WeightRule => ({ ...rule, from: rule.from.map((name) => prefix + name) }));
  return {
    ...{ model: { ...encoder, rules: body }, config, tree, body: loaded.body, peftTask },
    rules: { body: named, head: headRules },
    head: parametersOf(headRules, tree.head),
    objective: encoderObjective(encoder, tree),
    inputs: encoder.facts.segments > 0 ? ["lengths", "segments"] : ["lengths"],
    dispose: () => {
      weights.dispose();
      if (fresh) disposeTree(fresh);
    },
  };
}

/** `Bert` of `BertModel` or `BertForMaskedLM`. */
function stemOf({ architectures, model_type: type }: Readonly<Record<string, unknown>>): string {
  const [name] = Array.isArray(architectures) ? (architectures as unknown[]).map(String) : [];
  const stem = name?.replace(/(Model|For\w+)$/, "");
  if (stem) return stem;
  throw new HeedError(
    "USAGE",
    `finetune: config.json must name an architecture; got none for ${String(type)}. Add "architectures".`,
  );
}

function headConfig(
  config: Readonly<Record<string, unknown>>,
  architecture: string,
  labels: readonly string[] | undefined,
): Record<string, unknown> {
  if (!labels) return { ...config, architectures: [architecture] };
  return {
    ...config,
    architectures: [architecture],
    id2label: Object.fromEntries(labels.map((label, i) => [String(i), label])),
    label2id: Object.fromEntries(labels.map((label, i) => [label, i])),
  };
}

function sameHead(old: Readonly<Record<string, unknown>>, config: Readonly<Record<string, unknown>>): boolean {
  const count = (value: unknown): number => Object.keys((value as object | undefined) ?? {}).length;
  return (
    JSON.stringify(old["architectures"]) === JSON.stringify(config["architectures"]) &&
    count(old["id2label"]) === count(config["id2label"])
  );
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

function batchOptions(task: FinetuneTask, { inputs }: OpenedModel, options: FinetuneOptions): ItemBatchOptions {
  const { batch, length, tokenizer, maskRate } = options;
  const sizes = { batch, length, inputs, single: task === "classification" };
  return task === "masked-lm" ? { ...sizes, vary: maskWords(tokenizer, maskRate) } : sizes;
}
