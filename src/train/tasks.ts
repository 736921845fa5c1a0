import { HeedError } from "../core/errors.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { Encoder } from "../models/encoder_family.ts";
import type { Model, WeightRule, WeightTree } from "../models/family.ts";
import { publishedRules } from "../models/head_names.ts";
import { openDecoder, type OpenedModel, openEncoder, openEncoderDecoder } from "../models/registry.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { Batching } from "./batches.ts";
import { dropSpans, maskAndPair, maskBothSides, NEXT_SENTENCE_LABELS, pairSentences } from "./denoise_items.ts";
import { encoderObjective, pretrainingObjective } from "./encoder_objective.ts";
import { type ItemBatchOptions, itemBatching, type TokenItem, type VaryItem } from "./item_batches.ts";
import { languageModelObjective, type TextObjectiveOptions, translationObjective } from "./losses.ts";
import type { Objective } from "./objective.ts";
import { pairBatching } from "./pairs.ts";
import { maskWords } from "./task_items.ts";

/** What a model can be trained for, from zero or from a checkpoint. */
export const TASKS = [
  ...(["lm", "completion", "prefix-lm", "classification", "labels"] as const),
  ...(["masked-lm", "next-sentence", "pretraining", "answer"] as const),
  ...(["translation", "masked-translation", "span-corruption"] as const),
] as const;

/** One of {@link TASKS}. */
export type Task = (typeof TASKS)[number];

/** How items of a task become batches. */
export interface TaskBatchOptions {
  readonly tokenizer: Tokenizer;
  readonly batch: number;
  readonly length: number;
  /** Share of tokens that are hidden; by default 0.15, of masked-translation 0.5. */
  readonly maskRate?: number | undefined;
}

/** What sets a task apart; how a line of its data becomes items is in `examples.ts`. */
interface Definition {
  readonly kind: "decoder" | "encoder" | "encoder-decoder";
  /** What PEFT calls such a task. */
  readonly peft: string;
  /** Of encoders: how the architecture's name ends. */
  readonly architecture?: string;
  /** Names of classes or labels come from the data, or are these. */
  readonly labels?: "data" | readonly string[];
  /** Targets of an item, where they are not one a token. */
  readonly targetsEach?: number;
  /** The prompt sees itself both ways. */
  readonly prefix?: boolean;
  /** A share of the tokens is hidden. */
  readonly masks?: boolean;
  /** Its file of examples can't be read line by line. */
  readonly whole?: boolean;
  /** What is drawn anew each time that an item is read. */
  vary?(options: TaskBatchOptions & { readonly decoderStart: number }): VaryItem;
}

const DEFINITIONS: Readonly<Record<Task, Definition>> = {
  lm: { kind: "decoder", peft: "CAUSAL_LM" },
  completion: { kind: "decoder", peft: "CAUSAL_LM" },
  "prefix-lm": { kind: "decoder", peft: "CAUSAL_LM", prefix: true },
  classification: {
    ...{ kind: "encoder", peft: "SEQ_CLS", architecture: "ForSequenceClassification", labels: "data", targetsEach: 1 },
  },
  labels: { kind: "encoder", peft: "TOKEN_CLS", architecture: "ForTokenClassification", labels: "data" },
  "masked-lm": {
    ...{ kind: "encoder", peft: "FEATURE_EXTRACTION", architecture: "ForMaskedLM", masks: true },
    vary: ({ tokenizer, maskRate }) => maskWords(tokenizer, maskRate),
  },
  "next-sentence": {
    ...{ kind: "encoder", peft: "FEATURE_EXTRACTION", architecture: "ForNextSentencePrediction" },
    ...{ labels: NEXT_SENTENCE_LABELS, targetsEach: 1 },
    vary: ({ tokenizer, length }) => pairSentences(tokenizer, length),
  },
  pretraining: {
    ...{ kind: "encoder", peft: "FEATURE_EXTRACTION", architecture: "ForPreTraining", masks: true },
    vary: ({ tokenizer, length, maskRate }) => maskAndPair(tokenizer, length, maskRate),
  },
  answer: {
    ...{ kind: "encoder", peft: "QUESTION_ANS", architecture: "ForQuestionAnswering", targetsEach: 2, whole: true },
  },
  translation: { kind: "encoder-decoder", peft: "SEQ_2_SEQ_LM" },
  "masked-translation": {
    ...{ kind: "encoder-decoder", peft: "SEQ_2_SEQ_LM", masks: true },
    vary: ({ tokenizer, decoderStart, maskRate }) => maskBothSides(tokenizer, decoderStart, maskRate),
  },
  "span-corruption": {
    ...{ kind: "encoder-decoder", peft: "SEQ_2_SEQ_LM", masks: true },
    vary: ({ tokenizer, maskRate }) => dropSpans(tokenizer, maskRate),
  },
};

/** Settings that some tasks alone heed, by whether a task does and what is said of one that does not; all others mean something for every task. */
const SETTINGS = {
  maskRate: { isHeeded: ({ masks = false }: Definition) => masks, otherwise: "hides no tokens" },
  generation: {
    isHeeded: ({ kind }: Definition) => kind !== "encoder",
    otherwise: "trains a model that writes no text",
  },
  head: { isHeeded: ({ kind }: Definition) => kind === "encoder", otherwise: "puts no head on the model" },
  buffer: {
    isHeeded: ({ whole = false }: Definition) => !whole,
    otherwise: "reads a file in SQuAD's format, which is one value",
  },
} as const;

/** One of the settings that some tasks alone heed: of a recipe a field, of a command a flag. */
export type TaskSetting = keyof typeof SETTINGS;

/** The tasks that heed a setting. */
export function tasksThatHeed(setting: TaskSetting): readonly Task[] {
  return TASKS.filter((task) => SETTINGS[setting].isHeeded(DEFINITIONS[task]));
}

/** Throws `USAGE` for a setting that would do nothing for a task; `name` is what it is called where it was given, such as `--mask-rate`. */
export function checkSetting(task: Task, setting: TaskSetting, { command, name }: SettingName): void {
  const { isHeeded, otherwise } = SETTINGS[setting];
  if (isHeeded(DEFINITIONS[task])) return;
  const others = tasksThatHeed(setting).join(", ");
  throw new HeedError(
    "USAGE",
    `${command}: ${name} does nothing here: task ${task} ${otherwise}. Leave it out, or choose one of ${others}.`,
  );
}

/** How {@link checkSetting} calls a setting. */
interface SettingName {
  readonly command: "train" | "finetune";
  readonly name: string;
}

/** True for tasks whose models write text, so that generation_config.json means something. */
export function writesText(task: Task): boolean {
  return SETTINGS.generation.isHeeded(DEFINITIONS[task]);
}

/** True for tasks whose classes or labels are named by the data. */
export function namesLabels(task: Task): boolean {
  return DEFINITIONS[task].labels === "data";
}

/** A head of an encoder that a task trains. */
export interface TaskHead {
  /** Its place in the tree of the first head; undefined for that one. */
  readonly part: "next" | undefined;
  /** The encoder with this head. */
  readonly encoder: Encoder;
  readonly rules: WeightTree<WeightRule>;
}

/** A model as a task trains it. The tree of its weights is that of `model.rules`, or of encoders `{body, head}`. */
export interface TaskModel {
  /** config.json of the result: with the architecture and the labels of the task. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Of encoders the body alone. */
  readonly model: Model;
  /** What runs on the weights: of encoders with the first head. */
  readonly network: Exclude<OpenedModel, { readonly kind: "speech" }>;
  /** Of encoders. */
  readonly heads: readonly TaskHead[];
  /** Tokens of a sequence at most. */
  readonly contextLength: number;
  readonly peftTask: string;
  /** The token that the decoder reads first; of encoder–decoders. */
  readonly decoderStart?: number;
  objective(weights: WeightTree<Tensor>, options?: TextObjectiveOptions): Objective;
  batching(options: TaskBatchOptions): Batching<TokenItem>;
}

/**
 * The model of a config.json with what a task needs of it; `labels` name the classes of the data in the order of their numbers.
 * Throws `USAGE`, `BAD_FILE`, `UNSUPPORTED`.
 */
export function openTask(task: Task, config: Readonly<Record<string, unknown>>, labels?: readonly string[]): TaskModel {
  const definition = DEFINITIONS[task];
  if (definition.kind === "encoder") return openEncoderTask(definition, config, labels);
  const { peft: peftTask } = definition;
  if (definition.kind === "encoder-decoder") {
    const model = openEncoderDecoder(config);
    const { decoderStart, encoder, contextLength } = model.facts;
    return {
      ...{ config, model, network: { kind: "encoder-decoder", model }, heads: [], peftTask, decoderStart },
      contextLength: Math.min(contextLength, encoder.contextLength),
      objective: (weights, options) => translationObjective(model, weights, options),
      batching: (options) => {
        const { batch, length } = options;
        return pairBatching({ batch, length, decoderStart, vary: definition.vary?.({ ...options, decoderStart }) });
      },
    };
  }
  const model = openDecoder(config);
  const { prefix = false } = definition;
  return {
    ...{ config, model, network: { kind: "decoder", model }, heads: [], peftTask },
    contextLength: model.facts.contextLength,
    objective: (weights, options) => languageModelObjective(model, weights, { ...options, prefix }),
    batching: ({ batch, length }) => itemBatching({ batch, length, inputs: prefix ? ["prefix_lengths"] : [] }),
  };
}

function openEncoderTask(
  definition: Definition,
  given: Readonly<Record<string, unknown>>,
  labels: readonly string[] | undefined,
): TaskModel {
  const { architecture = "", peft: peftTask, targetsEach } = definition;
  const stem = stemOf(given);
  const named = definition.labels === "data" ? labels : definition.labels;
  const config = headConfig(given, `${stem}${architecture}`, named);
  const heads = architecture === "ForPreTraining" ? pretrainingHeads(given, stem) : [headOf(config, undefined)];
  const [{ encoder } = headOf(config, undefined)] = heads;
  const { body } = encoder.rules as { readonly body: WeightTree<WeightRule> };
  const inputs: ItemBatchOptions["inputs"] = [
    ...(["lengths"] as const),
    ...(encoder.facts.segments > 0 ? (["segments"] as const) : []),
    ...(heads.length > 1 ? (["next_targets"] as const) : []),
  ];
  return {
    ...{ config, model: { ...encoder, rules: body }, network: { kind: "encoder", model: encoder }, heads, peftTask },
    contextLength: encoder.facts.contextLength,
    objective(weights, options) {
      const [words, next] = heads.map((head) => head.encoder);
      return words && next
        ? pretrainingObjective({ words, next }, weights, options)
        : encoderObjective(encoder, weights, options);
    },
    batching(options) {
      const { batch, length } = options;
      const vary = definition.vary?.({ ...options, decoderStart: 0 });
      return itemBatching({ batch, length, inputs, vary, ...(targetsEach === undefined ? {} : { targetsEach }) });
    },
  };
}

function headOf(config: Readonly<Record<string, unknown>>, part: TaskHead["part"]): TaskHead {
  const encoder = openEncoder(config);
  return { part, encoder, rules: (encoder.rules as { readonly head: WeightTree<WeightRule> }).head };
}

/** Both heads of BERT's pre-training. Throws `UNSUPPORTED` for families that have no second one. */
function pretrainingHeads(config: Readonly<Record<string, unknown>>, stem: string): TaskHead[] {
  return [
    headOf(headConfig(config, `${stem}ForMaskedLM`, undefined), undefined),
    headOf(headConfig(config, `${stem}ForNextSentencePrediction`, NEXT_SENTENCE_LABELS), "next"),
  ];
}

/** The tree `head` of an encoder's weights: that of its first head, with those of others in it by their parts. */
export function joinHeads<Leaf>(
  heads: readonly TaskHead[],
  treeOf: (head: TaskHead) => WeightTree<Leaf>,
): WeightTree<Leaf> {
  const trees = heads.map((head) => (head.part === undefined ? treeOf(head) : { [head.part]: treeOf(head) }));
  return Object.assign({}, ...trees) as WeightTree<Leaf>;
}

/** The rules of everything that a task trains, body and heads. */
export function taskRules({ model, heads }: Pick<TaskModel, "model" | "heads">): WeightTree<WeightRule> {
  return heads.length === 0 ? model.rules : { body: model.rules, head: joinHeads(heads, ({ rules }) => rules) };
}

/** The same under the names that `transformers` gives them. */
export function publishedTaskRules({ model, heads, config }: TaskModel): WeightTree<WeightRule> {
  return publishedRules({ ...model, rules: taskRules({ model, heads }) }, config);
}

/** `transformers`' names of encoders whose config.json names no architecture. */
const STEMS: Readonly<Record<string, string>> = {
  ...{ bert: "Bert", roberta: "Roberta", "xlm-roberta": "XLMRoberta", camembert: "Camembert" },
  ...{ distilbert: "DistilBert", albert: "Albert" },
};

/** `Bert` of `BertModel` or `BertForMaskedLM`. */
export function stemOf({ architectures, model_type: type }: Readonly<Record<string, unknown>>): string {
  const [name] = Array.isArray(architectures) ? (architectures as unknown[]).map(String) : [];
  const stem = name?.replace(/(Model|For\w+)$/, "") ?? STEMS[String(type)];
  if (stem) return stem;
  throw new HeedError(
    "USAGE",
    `train: config.json must name an architecture; got none for ${String(type)}. Add "architectures".`,
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
