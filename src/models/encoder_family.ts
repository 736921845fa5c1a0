import { HeedError } from "../core/errors.ts";
import type { Step } from "../nn/step.ts";
import type { ActivationName } from "../ops/activation_parts.ts";
import type { Recorder, Value } from "../ops/op.ts";
import {
  type EncoderHead,
  type HeadLayouts,
  headRules,
  headTensors,
  type HeadWeights,
  openHead,
  recordHead,
} from "./encoder_heads.ts";
import {
  type Family,
  type FamilyDefinition,
  type Model,
  openedModel,
  typed,
  type WeightRule,
  type WeightTree,
  type WithLeaf,
} from "./family.ts";

/** What the runtime has to know of any encoder. */
export interface EncoderFacts {
  readonly vocabSize: number;
  /** Tokens of a sequence at most, those around the text included. */
  readonly contextLength: number;
  readonly layers: number;
  readonly heads: number;
  readonly headDim: number;
  /** C. */
  readonly width: number;
  /** Columns of the table of tokens; less than C in ALBERT. */
  readonly tokenWidth: number;
  /** Of the blocks. */
  readonly activation: ActivationName;
  readonly normEps: number;
  /** Kinds of segments that tokens may belong to; 0 where the model knows none. */
  readonly segments: number;
  /** A token that stands at no position (RoBERTa's padding), wherever it is in a sequence. */
  readonly placelessId?: number | undefined;
}

/** What an encoder reads: a step that attends both ways, and the segment of each token. */
export interface EncoderInputs {
  readonly step: Step;
  /** `[N]` u32; needed where the model knows segments. */
  readonly segments?: Value;
}

/** What the head needs beside the hidden rows `[B·T, C]`. */
export interface HeadInputs {
  /** B. */
  readonly batch: number;
  /** Drops where the papers do; in training the step of the pass. */
  readonly step: Pick<Step, "dropout">;
}

/** A family of encoders as its folder defines it. */
export interface EncoderDefinition<Config extends EncoderFacts, Rules> extends FamilyDefinition<Config, Rules> {
  /** The heads that its checkpoints may have. */
  readonly heads: HeadLayouts;
  /** Name of the dense layer that, with tanh, makes one vector of the first token, where the family has one. */
  readonly pooler?: string;
  /** Rows of token ids to rows of hidden states: `[N] → [N, C]`. */
  hidden(rec: Recorder, config: Config, weights: WithLeaf<Rules, Value>, inputs: EncoderInputs): Value;
  /** The table of tokens, `[V, E]`, which the head of masked words shares. */
  tokens(weights: WithLeaf<Rules, Value>): Value;
}

/** An encoder with its config read. Its weights are `{body, head}`. */
export interface Encoder extends Model {
  readonly facts: EncoderFacts;
  /** Absent in a checkpoint of the encoder alone. */
  readonly head: EncoderHead | undefined;
  readonly pooler: string | undefined;
  /** `[N] → [N, C]` */
  hidden(rec: Recorder, weights: WeightTree<Value>, inputs: EncoderInputs): Value;
  /**
   * What the head gives for hidden rows `[B·T, C]`: `[B, labels]` for classes, `[B·T, labels]` for labels of tokens,
   * `[B·T, 2]` for starts and ends, `[B·T, V]` for words (of any rows). Throws `UNSUPPORTED` without a head.
   */
  logits(rec: Recorder, weights: WeightTree<Value>, hidden: Value, inputs: HeadInputs): Value;
}

export type EncoderFamily = Family<Encoder>;

interface EncoderWeights {
  readonly body: WeightTree<Value>;
  readonly head: HeadWeights;
}

/** Hides a family's own types behind the interface that the registry holds. */
export function encoderFamily<Config extends EncoderFacts, Rules extends WeightTree<WeightRule>>(
  definition: EncoderDefinition<Config, Rules>,
): EncoderFamily {
  const { name, modelTypes, parse } = definition;
  return {
    name,
    modelTypes,
    open: (fields) => openedEncoder(definition, parse(fields), openHead(name, fields, definition.heads)),
  };
}

function openedEncoder<Config extends EncoderFacts, Rules extends WeightTree<WeightRule>>(
  definition: EncoderDefinition<Config, Rules>,
  config: Config,
  head: EncoderHead | undefined,
): Encoder {
  const model = openedModel(definition, config);
  // The loader replaces every rule of the tree {body, head} by one leaf.
  const parts = (weights: WeightTree<Value>) => weights as unknown as EncoderWeights;
  return {
    ...model,
    rules: { body: model.rules, head: head && headRules(head, config) },
    ignored: [...model.ignored, headTensors(definition.heads, definition.pooler)],
    facts: config,
    head,
    pooler: definition.pooler,
    hidden: (rec, weights, inputs) => definition.hidden(rec, config, typed<Rules>(parts(weights).body), inputs),
    logits(rec, weights, hidden, inputs) {
      if (!head)
        throw new HeedError("UNSUPPORTED", `${definition.name}: the checkpoint has no head, so there are no logits.`);
      const { body, head: own } = parts(weights);
      const tokens = definition.tokens(typed<Rules>(body));
      return recordHead(rec, head, own, { ...inputs, hidden, tokens, facts: config });
    },
  };
}
