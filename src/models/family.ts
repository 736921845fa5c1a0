import type { Shape } from "../core/shape.ts";
import type { MemoryRows, Step } from "../nn/step.ts";
import type { Recorder, Value } from "../ops/op.ts";

/** Where a weight of Heed's comes from in a checkpoint. */
export interface WeightRule {
  /** Names of the checkpoint's tensors, joined along their rows. */
  readonly from: readonly string[];
  /** Names that other files give to the first of `from`. */
  readonly or?: readonly string[];
  /** Shape that Heed uses. */
  readonly shape: Shape;
  /** The file's shape, where it is another of as many elements in the same order. */
  readonly stored?: Shape;
  /** Rows of each joined tensor, in the order of `from`; they add up to the first dimension of `shape`. */
  readonly rows?: readonly number[];
  /** `vector`: kept in f32 (norms, biases). `matrix`: kept in the model's dtype. */
  readonly role: "vector" | "matrix";
  /** The checkpoint holds `[in, out]`; turned at load to the `[out, in]` that the kernels read. */
  readonly turned?: boolean;
  /** The checkpoint's rows are `[heads, parts, D]`, each head's q, k and v together; set apart at load: `[parts, heads, D]`. */
  readonly perHead?: { readonly heads: number; readonly parts: number };
  /** Added to each element of a vector at load: some families keep their gains less 1. */
  readonly offset?: number;
}

/** A tree of weights: rules before loading, tensors after it, values while recording. */
export type WeightTree<Leaf> =
  | Leaf
  | undefined
  | readonly WeightTree<Leaf>[]
  | { readonly [name: string]: WeightTree<Leaf> };

/** The tree `T` of rules with every rule replaced by `Leaf`. */
export type WithLeaf<T, Leaf> = T extends WeightRule
  ? Leaf
  : T extends readonly (infer U)[]
    ? readonly WithLeaf<U, Leaf>[]
    : { readonly [K in keyof T]: WithLeaf<T[K], Leaf> };

/** What the runtime has to know of any decoder. */
export interface DecoderFacts {
  readonly vocabSize: number;
  readonly contextLength: number;
  /** Where longer contexts turn all positions otherwise (LongRoPE): the context unless a longer one is asked for. */
  readonly shortContext?: number | undefined;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** Host-made constants beside the weights, such as the rotary table. */
export type Constants = Readonly<Record<string, { readonly shape: Shape; readonly data: Float32Array }>>;

/** What every family's definition has, whatever it models. `Rules` types the weights that its functions are given. */
export interface FamilyDefinition<Config, Rules> {
  /** The name of the folder and of the registry, such as `llama`. */
  readonly name: string;
  /** Values of `model_type` in config.json that mean this family. */
  readonly modelTypes: readonly string[];
  /** Prefixes that checkpoints put before the names in `rules`; the empty one is always tried. */
  readonly prefixes: readonly string[];
  /** Tensors that checkpoints may hold and the forward pass does not need. */
  readonly ignored: readonly RegExp[];
  /** Checks config.json. Throws `BAD_FILE` for what is malformed, `UNSUPPORTED` for what Heed cannot honour. */
  parse(config: Readonly<Record<string, unknown>>): Config;
  rules(config: Config): Rules;
  /** For positions 0 … positions − 1. */
  constants?(config: Config, positions: number): Constants;
}

/** A family of decoders as its folder defines it: what the config means, where the weights are, and the forward pass. */
export interface DecoderDefinition<Config extends DecoderFacts, Rules> extends FamilyDefinition<Config, Rules> {
  /** Rows of token ids to rows of hidden states after the last norm: `[N] → [N, C]`. */
  hidden(rec: Recorder, config: Config, weights: WithLeaf<Rules, Value>, step: Step): Value;
  /** `[M, C] → [M, V]`. */
  logits(rec: Recorder, config: Config, weights: WithLeaf<Rules, Value>, hidden: Value): Value;
}

/** What the runtime has to know of any encoder–decoder, beside its decoder. */
export interface EncoderDecoderFacts extends DecoderFacts {
  /** Tokens that the encoder knows, where it has a vocabulary of its own. */
  readonly sourceVocabSize?: number | undefined;
  readonly encoder: {
    /** Rows that the encoder takes at most. */
    readonly contextLength: number;
    readonly layers: number;
    readonly heads: number;
  };
  /** The first token that the decoder reads, before it has written any. */
  readonly decoderStart: number;
}

/** A family of encoder–decoders: a decoder that also attends to an encoder's rows. */
export interface EncoderDecoderDefinition<Config extends EncoderDecoderFacts, Rules>
  extends DecoderDefinition<Config, Rules> {
  /** The encoder: rows of its tokens (or features of sound) to rows `[M, C]`. The step attends both ways. */
  encode(rec: Recorder, config: Config, weights: WithLeaf<Rules, Value>, step: Step): Value;
  /** Keys and values of the encoder's rows for the cross-attention of each layer, computed once a source. */
  memory(rec: Recorder, config: Config, weights: WithLeaf<Rules, Value>, encoded: Value): readonly MemoryRows[];
}

/** A checkpoint's config read: what the loader works with. */
export interface Model {
  readonly family: string;
  readonly prefixes: readonly string[];
  readonly ignored: readonly RegExp[];
  readonly rules: WeightTree<WeightRule>;
  /** The constants for positions 0 … positions − 1, made at each call. */
  constants(positions: number): Constants;
}

/** A decoder with its config read: what the runtime works with. */
export interface Decoder extends Model {
  readonly facts: DecoderFacts;
  hidden(rec: Recorder, weights: WeightTree<Value>, step: Step): Value;
  logits(rec: Recorder, weights: WeightTree<Value>, hidden: Value): Value;
}

/** An encoder–decoder with its config read. */
export interface EncoderDecoder extends Decoder {
  readonly facts: EncoderDecoderFacts;
  /** Its values are named under `encoder.`. */
  encode(rec: Recorder, weights: WeightTree<Value>, step: Step): Value;
  /** Its values are named under `memory.`. */
  memory(rec: Recorder, weights: WeightTree<Value>, encoded: Value): readonly MemoryRows[];
}

/** A family in the registry: opens a config. */
export interface Family<Opened extends Model> {
  readonly name: string;
  readonly modelTypes: readonly string[];
  open(config: Readonly<Record<string, unknown>>): Opened;
}

export type DecoderFamily = Family<Decoder>;
export type EncoderDecoderFamily = Family<EncoderDecoder>;

/** Hides a family's own types behind the interface that the registry holds. */
export function decoderFamily<Config extends DecoderFacts, Rules extends WeightTree<WeightRule>>(
  definition: DecoderDefinition<Config, Rules>,
): DecoderFamily {
  return family(definition, (config) => openedDecoder(definition, config));
}

/** Like {@link decoderFamily}, for encoder–decoders. */
export function encoderDecoderFamily<Config extends EncoderDecoderFacts, Rules extends WeightTree<WeightRule>>(
  definition: EncoderDecoderDefinition<Config, Rules>,
): EncoderDecoderFamily {
  return family(definition, (config) => ({
    ...openedDecoder(definition, config),
    facts: config,
    encode: (rec, weights, step) =>
      rec.scope("encoder", () => definition.encode(rec, config, typed<Rules>(weights), step)),
    memory: (rec, weights, encoded) =>
      rec.scope("memory", () => definition.memory(rec, config, typed<Rules>(weights), encoded)),
  }));
}

/** A family whose models are what `opened` makes of their config. */
export function family<Config, Rules extends WeightTree<WeightRule>, Opened extends Model>(
  { name, modelTypes, parse }: FamilyDefinition<Config, Rules>,
  opened: (config: Config) => Opened,
): Family<Opened> {
  return { name, modelTypes, open: (fields) => opened(parse(fields)) };
}

/** What the loader needs of a definition whose config is read. */
export function openedModel<Config, Rules extends WeightTree<WeightRule>>(
  definition: FamilyDefinition<Config, Rules>,
  config: Config,
): Model {
  return {
    family: definition.name,
    prefixes: definition.prefixes,
    ignored: definition.ignored,
    rules: definition.rules(config),
    constants: (positions) => definition.constants?.(config, positions) ?? {},
  };
}

/** The loader replaces every rule of a family's tree by one leaf, so the tree has the type that the family expects. */
export function typed<Rules>(weights: WeightTree<Value>): WithLeaf<Rules, Value> {
  return weights as WithLeaf<Rules, Value>;
}

function openedDecoder<Config extends DecoderFacts, Rules extends WeightTree<WeightRule>>(
  definition: DecoderDefinition<Config, Rules>,
  config: Config,
): Decoder {
  return {
    ...openedModel(definition, config),
    facts: config,
    hidden: (rec, weights, step) => definition.hidden(rec, config, typed<Rules>(weights), step),
    logits: (rec, weights, hidden) => definition.logits(rec, config, typed<Rules>(weights), hidden),
  };
}

/** True for a {@link WeightRule} in a tree. */
export function isRule(node: WeightTree<WeightRule>): node is WeightRule {
  return typeof node === "object" && node !== null && "from" in node && "role" in node;
}

/** The tree with every rule replaced by `leaf(rule)`. */
export function mapRules<Leaf>(tree: WeightTree<WeightRule>, leaf: (rule: WeightRule) => Leaf): WeightTree<Leaf> {
  return mapLeaves(tree, isRule, leaf);
}

/** The tree with every leaf replaced, where `isLeaf` tells leaves from branches. */
export function mapLeaves<From, To>(
  tree: WeightTree<From>,
  isLeaf: (node: WeightTree<From>) => node is From,
  leaf: (from: From) => To,
): WeightTree<To> {
  if (tree === undefined) return undefined;
  if (isLeaf(tree)) return leaf(tree);
  if (Array.isArray(tree)) return tree.map((t: WeightTree<From>) => mapLeaves(t, isLeaf, leaf));
  const branches = Object.entries(tree as { readonly [name: string]: WeightTree<From> });
  return Object.fromEntries(branches.map(([name, t]) => [name, mapLeaves(t, isLeaf, leaf)]));
}
