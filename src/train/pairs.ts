import { HeedError } from "../core/errors.ts";
import { UniformGenerator } from "./initialise.ts";
import { IGNORED_TARGET } from "./losses.ts";
import type { Batch } from "./objective.ts";
import type { BatchSource } from "./windows.ts";

/** A sentence and its translation as token ids, each with its end token. */
export interface EncodedPair {
  readonly source: readonly number[];
  readonly target: readonly number[];
}

/** How pairs become padded batches. */
export interface PairBatchOptions {
  /** Pairs of a batch. */
  readonly batch: number;
  /** Tokens that a side may have. */
  readonly length: number;
  /** The token that the decoder reads first. */
  readonly decoderStart: number;
}

/** Shares of the longest length that make the buckets: few plans, little padding. */
const BUCKET_SHARES = [1 / 4, 3 / 8, 1 / 2, 3 / 4, 1];

/** The lengths that batches are padded to, rising, multiples of 4 but for the last. */
function bucketLengths(length: number): number[] {
  const lengths = BUCKET_SHARES.map((share) => (share === 1 ? length : Math.ceil((share * length) / 4) * 4));
  return [...new Set(lengths)].filter((n) => n <= length);
}

/** Throws `BAD_FILE` for the first pair that no batch can hold. */
export function checkPairs(pairs: readonly EncodedPair[], length: number): void {
  const at = pairs.findIndex(({ source, target }) => source.length > length || target.length > length);
  const pair = pairs[at];
  if (!pair) return;
  throw new HeedError(
    "BAD_FILE",
    `data: a sentence may have ${length} tokens, its end among them; got ${pair.source.length} and ${pair.target.length} in pair ${at + 1}. Raise length in the recipe, or leave such pairs out.`,
  );
}

/**
 * Batches of pairs of about the same length. Each epoch goes through all pairs once in an order of its own, which follows from seed and
 * epoch; what is left over in a bucket at its end makes a batch that is filled up with padding.
 */
export class PairBatches implements BatchSource {
  readonly #pairs: readonly EncodedPair[];
  readonly #options: PairBatchOptions;
  readonly #seed: number;
  #epoch = 0;
  #next = 0;
  #order: readonly (readonly EncodedPair[])[] | undefined;

  /** Throws `USAGE` without pairs and `BAD_FILE` for a pair that is too long. */
  constructor(pairs: readonly EncodedPair[], options: PairBatchOptions, seed: number) {
    if (pairs.length === 0) throw new HeedError("USAGE", "data: at least one pair is needed; got none.");
    checkPairs(pairs, options.length);
    this.#pairs = pairs;
    this.#options = options;
    this.#seed = seed;
  }

  next(): Batch {
    let order = this.#order ?? this.#shuffled();
    if (this.#next >= order.length) {
      this.#epoch++;
      this.#next = 0;
      order = this.#shuffled();
    }
    this.#order = order;
    return pairBatch(order[this.#next++] as readonly EncodedPair[], this.#options);
  }

  state(): unknown {
    return { epoch: this.#epoch, next: this.#next };
  }

  restore(state: unknown): void {
    const { epoch, next } = (typeof state === "object" && state !== null ? state : {}) as Record<string, unknown>;
    if (!Number.isSafeInteger(epoch) || !Number.isSafeInteger(next)) {
      throw new HeedError("BAD_FILE", `data: a state of shuffled pairs is needed; got ${JSON.stringify(state)}.`);
    }
    if (epoch !== this.#epoch) this.#order = undefined;
    this.#epoch = epoch as number;
    this.#next = next as number;
  }

  #shuffled(): (readonly EncodedPair[])[] {
    const uniform = new UniformGenerator(this.#seed + 0x9e3779b9 * (this.#epoch + 1));
    const pairs = [...this.#pairs];
    for (let i = pairs.length - 1; i > 0; i--) {
      const j = Math.floor(uniform.next() * (i + 1));
      [pairs[i], pairs[j]] = [pairs[j] as EncodedPair, pairs[i] as EncodedPair];
    }
    return bucketed(pairs, this.#options);
  }
}

/** Every pair once, in a fixed order; at most `most` batches. */
export function* orderedPairs(
  pairs: readonly EncodedPair[],
  options: PairBatchOptions,
  most = Number.POSITIVE_INFINITY,
): Generator<Batch> {
  for (const [i, group] of bucketed(pairs, options).entries()) {
    if (i >= most) return;
    yield pairBatch(group, options);
  }
}

/** Groups of up to `batch` pairs of one bucket, in the order in which they fill up. */
function bucketed(pairs: readonly EncodedPair[], { batch, length }: PairBatchOptions): (readonly EncodedPair[])[] {
  const open = new Map<number, EncodedPair[]>();
  const full: EncodedPair[][] = [];
  for (const pair of pairs) {
    const bucket = bucketOf(pair, length);
    const group = open.get(bucket) ?? [];
    group.push(pair);
    open.set(bucket, group);
    if (group.length < batch) continue;
    full.push(group);
    open.delete(bucket);
  }
  return [...full, ...open.values()];
}

function bucketOf({ source, target }: EncodedPair, length: number): number {
  const longest = Math.max(source.length, target.length);
  return bucketLengths(length).find((n) => n >= longest) ?? length;
}

/** Pairs side by side, padded to their bucket; missing ones are rows of padding that do not count. */
function pairBatch(pairs: readonly EncodedPair[], { batch, length, decoderStart }: PairBatchOptions): Batch {
  const T = Math.max(...pairs.map((pair) => bucketOf(pair, length)));
  const sourceTokens = new Uint32Array(batch * T);
  const tokens = new Uint32Array(batch * T);
  const targets = new Int32Array(batch * T).fill(IGNORED_TARGET);
  // A sequence of padding attends to one key, so that no row is without any.
  const sourceLengths = new Uint32Array(batch).fill(1);
  let [count, read] = [0, 0];
  pairs.forEach(({ source, target }, b) => {
    sourceTokens.set(source, b * T);
    sourceLengths[b] = source.length;
    tokens.set([decoderStart, ...target.slice(0, -1)], b * T);
    targets.set(target, b * T);
    count += target.length;
    read += source.length + target.length;
  });
  return {
    shape: { batch, length: T, sourceLength: T },
    inputs: { source_tokens: sourceTokens, source_lengths: sourceLengths, tokens, targets },
    count,
    tokens: read,
  };
}
