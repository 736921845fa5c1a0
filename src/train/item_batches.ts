import { HeedError } from "../core/errors.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { type Batching, bucketLengths, grouped } from "./batches.ts";
import { countTargets, IGNORED_TARGET, MASKED_LOSS, NEXT_LOSS } from "./losses.ts";
import type { Batch, Objective } from "./objective.ts";

/** An example as tokens. */
export interface TokenItem {
  readonly ids: readonly number[];
  /** A target for each token, or one for all of them, or an answer's first and last token; of a translation the tokens of the other side. */
  readonly targets: readonly number[];
  /** Segment of each token; default 0. */
  readonly segments?: readonly number[];
  /** So many first tokens see each other both ways. */
  readonly prefix?: number;
  /** Of encoder–decoders: what the decoder reads, where that is not the start token and the targets before. */
  readonly decoder?: readonly number[];
  /** Tokens of the sentence that follows in the document of that number. */
  readonly next?: readonly number[];
  readonly document?: number;
  /** Of masked words and the next sentence at once: 0 where the second sentence follows the first, else 1. */
  readonly follows?: number;
}

/** Changes an item each time that it is drawn, such as masking some of its words; `items` are those that are shuffled together. */
export type VaryItem = (item: TokenItem, uniform: () => number, items: readonly TokenItem[]) => TokenItem;

/** How items become padded batches. */
export interface ItemBatchOptions {
  readonly batch: number;
  /** Tokens of an item at most. */
  readonly length: number;
  /** So many targets an item, not one a token. */
  readonly targetsEach?: number;
  /** The inputs beside tokens and targets that the objective asks for. */
  readonly inputs: readonly ("lengths" | "segments" | "prefix_lengths" | "next_targets")[];
  readonly vary?: VaryItem | undefined;
}

const BUCKET_SHARES = [1 / 4, 1 / 2, 3 / 4, 1];

/** Throws `USAGE` for the first example with a token, or a target, that an objective knows nothing of; see {@link Objective.limits}. */
export function checkItems(
  items: readonly TokenItem[],
  { tokens, source_tokens: own = tokens, targets }: NonNullable<Objective["limits"]>,
  tokenizer: Tokenizer,
): void {
  const check = (ids: readonly number[], limit: number | undefined, i: number): void => {
    const beyond = limit === undefined ? undefined : ids.find((id) => id >= limit);
    if (beyond === undefined) return;
    const piece = limit === own || limit === tokens ? tokenizer.idToToken(beyond) : undefined;
    const got = piece === undefined ? `${beyond}` : `${beyond} (${JSON.stringify(piece)})`;
    throw new HeedError(
      "USAGE",
      `finetune: examples must be of what the model knows, numbers below ${limit}; got ${got} in example ${i + 1}. Use the tokenizer and the labels that the model is for.`,
    );
  };
  items.forEach((item, i) => {
    check(item.ids, own, i);
    check(item.targets, targets, i);
  });
}

/** Batches of items of about the same length, each cut to `length` tokens. */
export function itemBatching(options: ItemBatchOptions): Batching<TokenItem> {
  const { batch, length, vary } = options;
  const buckets = bucketLengths(length, BUCKET_SHARES);
  const bucketOf = ({ ids }: TokenItem): number => buckets.find((size) => size >= ids.length) ?? length;
  return {
    groups: (items, uniform) =>
      grouped(vary ? items.map((item) => vary(item, uniform, items)) : items, batch, bucketOf),
    batch: (group) => itemBatch(group, Math.max(...group.map(bucketOf)), options),
    shufflesGroups: true,
  };
}

function itemBatch(
  group: readonly TokenItem[],
  length: number,
  { batch, targetsEach, inputs }: ItemBatchOptions,
): Batch {
  const tokens = new Uint32Array(batch * length);
  const segments = new Uint32Array(batch * length);
  const each = targetsEach ?? length;
  const targets = new Int32Array(batch * each).fill(IGNORED_TARGET);
  const prefixes = new Uint32Array(batch);
  const follows = new Int32Array(batch).fill(IGNORED_TARGET);
  // A sequence of padding alone attends to one token of it, so that no row is without keys.
  const lengths = new Uint32Array(batch).fill(1);
  group.forEach((item, b) => {
    const ids = item.ids.slice(0, length);
    tokens.set(ids, b * length);
    segments.set((item.segments ?? []).slice(0, length), b * length);
    targets.set(item.targets.slice(0, each), b * each);
    lengths[b] = Math.max(1, ids.length);
    prefixes[b] = Math.min(item.prefix ?? 0, ids.length);
    follows[b] = item.follows ?? IGNORED_TARGET;
  });
  const all = { lengths, segments, prefix_lengths: prefixes, next_targets: follows };
  const chosen = Object.fromEntries(inputs.map((name) => [name, all[name]]));
  const read = group.reduce((sum, { ids }) => sum + Math.min(ids.length, length), 0);
  const count = countTargets(targets);
  const counts = { [MASKED_LOSS]: count, [NEXT_LOSS]: countTargets(follows) };
  return {
    shape: { batch, length },
    inputs: { tokens, targets, ...chosen },
    count,
    ...(inputs.includes("next_targets") ? { counts } : {}),
    tokens: read,
  };
}
