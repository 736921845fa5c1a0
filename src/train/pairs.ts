import { type Batching, bucketLengths, grouped } from "./batches.ts";
import type { TokenItem, VaryItem } from "./item_batches.ts";
import { countTargets, IGNORED_TARGET } from "./losses.ts";
import type { Batch } from "./objective.ts";

/** How pairs become padded batches. */
export interface PairBatchOptions {
  /** Pairs of a batch. */
  readonly batch: number;
  /** Tokens that a side may have. */
  readonly length: number;
  /** The token that the decoder reads first. */
  readonly decoderStart: number;
  readonly vary?: VaryItem | undefined;
}

const BUCKET_SHARES = [1 / 4, 3 / 8, 1 / 2, 3 / 4, 1];

/** Batches of pairs of about the same length: `ids` the source, `targets` the translation, each with its end token, cut to `length` tokens. */
export function pairBatching(options: PairBatchOptions): Batching<TokenItem> {
  const { batch, length, vary } = options;
  const buckets = bucketLengths(length, BUCKET_SHARES);
  const bucketOf = ({ ids, targets }: TokenItem): number => {
    const longest = Math.max(ids.length, targets.length);
    return buckets.find((n) => n >= longest) ?? length;
  };
  return {
    groups: (items, uniform) =>
      grouped(vary ? items.map((item) => vary(item, uniform, items)) : items, batch, bucketOf),
    batch: (group) => pairBatch(group, Math.max(...group.map(bucketOf)), options),
    shufflesGroups: false,
  };
}

/** Pairs side by side, padded to `T`; missing ones are rows of padding that do not count. */
function pairBatch(pairs: readonly TokenItem[], T: number, { batch, decoderStart }: PairBatchOptions): Batch {
  const sourceTokens = new Uint32Array(batch * T);
  const tokens = new Uint32Array(batch * T);
  const targets = new Int32Array(batch * T).fill(IGNORED_TARGET);
  // A sequence of padding attends to one key, so that no row is without any.
  const sourceLengths = new Uint32Array(batch).fill(1);
  let read = 0;
  pairs.forEach((pair, b) => {
    const [source, target] = [pair.ids.slice(0, T), pair.targets.slice(0, T)];
    sourceTokens.set(source, b * T);
    sourceLengths[b] = source.length;
    tokens.set(pair.decoder?.slice(0, T) ?? [decoderStart, ...target.slice(0, -1)], b * T);
    targets.set(target, b * T);
    read += pair.ids.length + pair.targets.length;
  });
  return {
    shape: { batch, length: T, sourceLength: T },
    inputs: { source_tokens: sourceTokens, source_lengths: sourceLengths, tokens, targets },
    count: countTargets(targets),
    tokens: read,
  };
}
