import { HeedError } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import type { Encoder } from "../models/encoder_family.ts";
import { mapRules, type Model, type WeightRule, type WeightTree } from "../models/family.ts";
import { loadWeights } from "../models/load.ts";
import { openEncoder } from "../models/registry.ts";
import type { EncoderModel } from "../tasks/encoder_model.ts";
import type { Seq2SeqModel } from "../tasks/seq2seq_model.ts";
import type { TextModel } from "../tasks/text_model.ts";
import type { Batching } from "./batches.ts";
import { initialise } from "./initialise.ts";
import type { TokenItem } from "./item_batches.ts";
import type { Objective } from "./objective.ts";
import { disposeTree, type Parameter, parametersOf } from "./parameters.ts";
import {
  joinHeads,
  openTask,
  publishedTaskRules,
  stemOf,
  type Task,
  type TaskBatchOptions,
  type TaskHead,
  type TaskModel,
} from "./tasks.ts";

/** The model that runs while a checkpoint is tuned for a task. */
export type TunedModel<T extends Task> = T extends "lm" | "completion" | "prefix-lm"
  ? TextModel
  : T extends "translation" | "masked-translation" | "span-corruption"
    ? Seq2SeqModel
    : EncoderModel;

/** A checkpoint's model with the head that its task needs. */
export interface OpenedModel {
  readonly model: Model;
  /** What runs between updates, on {@link tree}. */
  readonly network: TaskModel["network"];
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
  /** How items of the task become batches. */
  batching(options: TaskBatchOptions): Batching<TokenItem>;
  dispose(): void;
}

/** How {@link openForFinetuning} opens. */
export interface OpenForFinetuning {
  readonly task: Task;
  /** Names of classes or labels, in the order of their numbers. */
  readonly labels?: readonly string[];
  /** Tokens of a sequence at most; the model's context must hold as many. */
  readonly length: number;
  /** Of a fresh head. Default 0. */
  readonly seed?: number;
  readonly labelSmoothing?: number | undefined;
  /** How the weights are kept that an adapter leaves as they are; `auto` as in the file. Default `f32`. */
  readonly base?: BaseDType | undefined;
}

/** Tokens of a sequence where nobody says: 128, or the model's context where that is shorter. Throws as {@link openTask}. */
export function defaultLength(task: Task, config: Readonly<Record<string, unknown>>): number {
  return Math.min(128, openTask(task, config).contextLength);
}

/** What a frozen base may be kept in. */
export const BASE_DTYPES = ["f32", "f16", "q8_0", "q4_0", "auto"] as const;

/** One of {@link BASE_DTYPES}. */
export type BaseDType = (typeof BASE_DTYPES)[number];

/** Loads a checkpoint, in f32 unless its base is frozen, with what a task needs of it. Throws `USAGE`, `BAD_FILE`, `UNSUPPORTED`, with nothing left allocated. */
export async function openForFinetuning(
  device: Device,
  checkpoint: Checkpoint,
  options: OpenForFinetuning,
): Promise<OpenedModel> {
  const { task, base = "f32", labelSmoothing, seed, labels, length } = options;
  const { config: given } = checkpoint;
  const opened = openTask(task, given, labels);
  const { model, config, heads, contextLength } = opened;
  if (length > contextLength) {
    throw new HeedError(
      "USAGE",
      `finetune: length may be at most the model's context of ${contextLength} tokens; got ${length}. Shorten it (--length).`,
    );
  }
  const isEncoder = heads.length > 0;
  const plain = isEncoder ? openEncoder({ ...given, architectures: [`${stemOf(given)}Model`] }) : model;
  const weights = await loadWeights(device, plain, checkpoint, { dtype: base });
  const body = isEncoder ? (weights.tree as { readonly body: WeightTree<Tensor> }).body : weights.tree;
  const drawn: { readonly head: TaskHead; readonly tree: WeightTree<Tensor> }[] = [];
  const dispose = (): void => {
    weights.dispose();
    for (const { tree } of drawn) disposeTree(tree);
  };
  try {
    for (const head of heads) {
      const hasHead = sameHead(given, config) || isPretrained(checkpoint, head.encoder);
      drawn.push({ head, tree: await openHeadWeights(device, checkpoint, { head, hasHead, seed }) });
    }
  } catch (error) {
    dispose();
    throw error;
  }
  const trees = new Map(drawn.map(({ head, tree }) => [head, tree]));
  const tree = isEncoder ? { body, head: joinHeads(heads, (head) => trees.get(head)) } : body;
  return {
    ...{ model, network: opened.network, config, tree, body, dispose },
    rules: publishedTaskRules(opened),
    head: drawn.flatMap(({ head, tree: own }) => parametersOf(head.rules, own)),
    objective: opened.objective(tree, { labelSmoothing }),
    peftTask: opened.peftTask,
    batching: (how) => opened.batching(how),
  };
}

/** A head is trained whatever becomes of the base: always in f32, from the checkpoint where it has it, else drawn. */
async function openHeadWeights(
  device: Device,
  checkpoint: Checkpoint,
  { head: { encoder, rules }, hasHead, seed = 0 }: OwnHead,
): Promise<WeightTree<Tensor>> {
  if (!hasHead) return initialise(device, { ...encoder, rules }, { seed });
  const all = { ...encoder, rules, ignored: [/./] };
  return (await loadWeights(device, all, checkpoint, { dtype: "f32" })).tree;
}

interface OwnHead {
  readonly head: TaskHead;
  readonly hasHead: boolean;
  readonly seed: number | undefined;
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
