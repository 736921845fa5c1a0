import type { Shape } from "../core/shape.ts";
import type { DecoderStep } from "../nn/step.ts";
import type { Recorder, Value } from "../ops/op.ts";

/** Where a weight of Heed's comes from in a checkpoint. */
export interface WeightRule {
  /** Names of the checkpoint's tensors, joined along their rows. */
  readonly from: readonly string[];
  /** Shape that Heed uses. */
  readonly shape: Shape;
  /** Rows of each joined tensor, in the order of `from`; they add up to the first dimension of `shape`. */
  readonly rows?: readonly number[];
  /** `vector`: kept in f32 (norms, biases). `matrix`: kept in the model's dtype. */
  readonly role: "vector" | "matrix";
  /** The checkpoint holds `[in, out]`; turned at load to the `[out, in]` that the kernels read. */
  readonly turned?: boolean;
  /** The checkpoint's rows are `[heads, parts, D]`, each head's q, k and v together; set apart at load: `[parts, heads, D]`. */
  readonly perHead?: { readonly heads: number; readonly parts: number };
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
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** Host-made constants beside the weights, such as the rotary table. */
export type Constants = Readonly<Record<string, { readonly shape: Shape; readonly data: Float32Array }>>;

/**
 * A family of decoders as its folder defines it: what the config means (`parse`), where the weights are (`rules`) and
 * the forward pass. `Rules` types the weights that `hidden` and `logits` are given.
 */
export interface DecoderDefinition<Config extends DecoderFacts, Rules> {
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
  /** Rows of token ids to rows of hidden states after the last norm: `[N] → [N, C]`. */
  hidden(rec: Recorder, config: Config, weights: WithLeaf<Rules, Value>, step: DecoderStep): Value;
  /** `[M, C] → [M, V]`. */
  logits(rec: Recorder, config: Config, weights: WithLeaf<Rules, Value>, hidden: Value): Value;
}

/** A decoder with its config read: what the loader and the runtime work with. */
export interface Decoder {
  readonly family: string;
  readonly facts: DecoderFacts;
  readonly prefixes: readonly string[];
  readonly ignored: readonly RegExp[];
  readonly rules: WeightTree<WeightRule>;
  /** The constants for positions 0 … positions − 1, made at each call. */
  constants(positions: number): Constants;
  hidden(rec: Recorder, weights: WeightTree<Value>, step: DecoderStep): Value;
  logits(rec: Recorder, weights: WeightTree<Value>, hidden: Value): Value;
}

/** A family in the registry: opens a config. */
export interface DecoderFamily {
  readonly name: string;
  readonly modelTypes: readonly string[];
  open(config: Readonly<Record<string, unknown>>): Decoder;
}

/** Hides a family's own types behind the interface that the registry holds. */
export function decoderFamily<Config extends DecoderFacts, Rules extends WeightTree<WeightRule>>(
  definition: DecoderDefinition<Config, Rules>,
): DecoderFamily {
  const { name, modelTypes, prefixes, ignored } = definition;
  return {
    name,
    modelTypes,
    open(fields) {
      const config = definition.parse(fields);
      // The loader replaces every rule of this tree by one value, so the tree has the type that the family expects.
      const typed = (weights: WeightTree<Value>) => weights as WithLeaf<Rules, Value>;
      return {
        family: name,
        facts: config,
        prefixes,
        ignored,
        rules: definition.rules(config),
        constants: (positions) => definition.constants?.(config, positions) ?? {},
        hidden: (rec, weights, step) => definition.hidden(rec, config, typed(weights), step),
        logits: (rec, weights, hidden) => definition.logits(rec, config, typed(weights), hidden),
      };
    },
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
