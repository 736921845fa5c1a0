import { HeedError } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import type { Encoder } from "../models/encoder_family.ts";
import { type Decoder, mapRules, type Model, type WeightRule, type WeightTree } from "../models/family.ts";
import { publishedRules } from "../models/head_names.ts";
import { loadWeights } from "../models/load.ts";
import { openDecoder, openEncoder, openEncoderDecoder } from "../models/registry.ts";
import { NEXT_SENTENCE_LABELS } from "./denoise_items.ts";
import { encoderObjective } from "./encoder_objective.ts";
import { initialise } from "./initialise.ts";
import type { ItemBatchOptions } from "./item_batches.ts";
import { languageModelObjective, translationObjective } from "./losses.ts";
import type { Objective } from "./objective.ts";
import { disposeTree, type Parameter, parametersOf } from "./parameters.ts";

/** What a checkpoint can be tuned for here. */
export const FINETUNE_TASKS = [
  ...(["lm", "completion", "prefix-lm", "classification", "labels", "masked-lm", "next-sentence", "answer"] as const),
  ...(["translation", "masked-translation", "span-corruption"] as const),
] as const;

/** One of {@link FINETUNE_TASKS}. */
export type FinetuneTask = (typeof FINETUNE_TASKS)[number];

/** A checkpoint's model with the head that its task needs. */
export interface OpenedModel {
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
  /** The token that the decoder reads first; of encoder–decoders. */
  readonly decoderStart?: number;
  readonly inputs: ItemBatchOptions["inputs"];
  dispose(): void;
}

/** How {@link openForFinetuning} opens. */
export interface OpenForFinetuning {
  readonly task: FinetuneTask;
  /** Names of classes or labels, in the order of their numbers. */
  readonly labels?: readonly string[];
  /** Of a fresh head. Default 0. */
  readonly seed?: number;
  readonly labelSmoothing?: number | undefined;
  /** How the weights are kept that an adapter leaves as they are; `auto` as in the file. Default `f32`. */
  readonly base?: BaseDType | undefined;
}

/** What a frozen base may be kept in. */
export type BaseDType = "f32" | "f16" | "q8_0" | "q4_0" | "auto";

/** Loads a checkpoint, in f32 unless its base is frozen, with what a task needs of it. Throws `USAGE`, `BAD_FILE`, `UNSUPPORTED`, with nothing left allocated. */
export function openForFinetuning(
  device: Device,
  checkpoint: Checkpoint,
  options: OpenForFinetuning,
): Promise<OpenedModel> {
  const { task } = options;
  if (task === "translation" || task === "masked-translation" || task === "span-corruption")
    return openForTranslation(device, checkpoint, options);
  return (task in HEADS ? openForHead : openForText)(device, checkpoint, options);
}

async function openForTranslation(
  device: Device,
  checkpoint: Checkpoint,
  { base = "f32", labelSmoothing }: OpenForFinetuning,
): Promise<OpenedModel> {
  const { config } = checkpoint;
  const model = openEncoderDecoder(config);
  const { tree, dispose } = await loadWeights(device, model, checkpoint, { dtype: base });
  return {
    ...{ model, config, rules: publishedRules(model, config), tree, body: tree, head: [], inputs: [], dispose },
    objective: translationObjective(model, tree, { labelSmoothing }),
    peftTask: "SEQ_2_SEQ_LM",
    decoderStart: model.facts.decoderStart,
  };
}

async function openForText(
  device: Device,
  checkpoint: Checkpoint,
  { task, base = "f32", labelSmoothing }: OpenForFinetuning,
): Promise<OpenedModel> {
  const { config } = checkpoint;
  const model: Decoder = openDecoder(config);
  const weights = await loadWeights(device, model, checkpoint, { dtype: base });
  const prefix = task === "prefix-lm";
  return {
    ...{ model, config, rules: publishedRules(model, config), tree: weights.tree, body: weights.tree, head: [] },
    objective: languageModelObjective(model, weights.tree, { prefix, labelSmoothing }),
    peftTask: "CAUSAL_LM",
    inputs: prefix ? ["prefix_lengths"] : [],
    dispose: () => weights.dispose(),
  };
}

const HEADS: Readonly<Partial<Record<FinetuneTask, readonly [ending: string, peft: string]>>> = {
  classification: ["ForSequenceClassification", "SEQ_CLS"],
  labels: ["ForTokenClassification", "TOKEN_CLS"],
  answer: ["ForQuestionAnswering", "QUESTION_ANS"],
  "masked-lm": ["ForMaskedLM", "FEATURE_EXTRACTION"],
  "next-sentence": ["ForNextSentencePrediction", "FEATURE_EXTRACTION"],
};

/** An encoder with its own head if it has the one that the task needs and as many labels, else with a fresh one. */
async function openForHead(device: Device, checkpoint: Checkpoint, options: OpenForFinetuning): Promise<OpenedModel> {
  const [ending, peftTask] = HEADS[options.task] ?? ["", ""];
  const stem = stemOf(checkpoint.config);
  const labels = options.task === "next-sentence" ? NEXT_SENTENCE_LABELS : options.labels;
  const config = headConfig(checkpoint.config, `${stem}${ending}`, labels);
  const encoder = openEncoder(config);
  const hasHead = sameHead(checkpoint.config, config) || isPretrained(checkpoint, encoder);
  const plain = openEncoder({ ...checkpoint.config, architectures: [`${stem}Model`] });
  const weights = await loadWeights(device, plain, checkpoint, { dtype: options.base ?? "f32" });
  const { body, head: headRules } = encoder.rules as {
    readonly body: WeightTree<WeightRule>;
    readonly head: WeightTree<WeightRule>;
  };
  const loaded = weights.tree as { readonly body: WeightTree<Tensor> };
  const head = await openHeadWeights(device, checkpoint, { encoder, headRules, hasHead, seed: options.seed }).catch(
    (error: unknown) => {
      weights.dispose();
      throw error;
    },
  );
  const tree = { body: loaded.body, head };
  const model = { ...encoder, rules: body };
  return {
    ...{ model, config, tree, body: loaded.body, peftTask },
    rules: { body: publishedRules(model, config), head: headRules },
    head: parametersOf(headRules, tree.head),
    objective: encoderObjective(encoder, tree, { labelSmoothing: options.labelSmoothing }),
    inputs: encoder.facts.segments > 0 ? ["lengths", "segments"] : ["lengths"],
    dispose: () => {
      weights.dispose();
      disposeTree(head);
    },
  };
}

/** A head is trained whatever becomes of the base: always in f32, from the checkpoint where it has it, else drawn. */
async function openHeadWeights(
  device: Device,
  checkpoint: Checkpoint,
  { encoder, headRules, hasHead, seed = 0 }: OwnHead,
): Promise<WeightTree<Tensor>> {
  if (!hasHead) return initialise(device, { ...encoder, rules: headRules }, { seed });
  const all = { ...encoder, rules: headRules, ignored: [/./] };
  return (await loadWeights(device, all, checkpoint, { dtype: "f32" })).tree;
}

interface OwnHead {
  readonly encoder: Encoder;
  readonly headRules: WeightTree<WeightRule>;
  readonly hasHead: boolean;
  readonly seed: number | undefined;
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

/** Heads of pre-training are used wherever they are: config.json names one of the two that BERT's files have. */
function isPretrained({ tensors }: Checkpoint, { head, prefixes, rules }: Encoder): boolean {
  if (head?.kind !== "words" && !head?.architecture.endsWith("ForNextSentencePrediction")) return false;
  const names: string[][] = [];
  mapRules((rules as { readonly head: WeightTree<WeightRule> }).head, ({ from, or = [] }) =>
    names.push([...from, ...or].flatMap((name) => ["", ...prefixes].map((prefix) => prefix + name))),
  );
  return names.every((candidates) => candidates.some((name) => tensors.has(name)));
}

function sameHead(old: Readonly<Record<string, unknown>>, config: Readonly<Record<string, unknown>>): boolean {
  const count = (value: unknown): number => Object.keys((value as object | undefined) ?? {}).length;
  return (
    JSON.stringify(old["architectures"]) === JSON.stringify(config["architectures"]) &&
    count(old["id2label"]) === count(config["id2label"])
  );
}
