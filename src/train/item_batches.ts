import { HeedError } from "../core/errors.ts";
import { UniformGenerator } from "./initialise.ts";
import { IGNORED_TARGET } from "./losses.ts";
import type { Batch } from "./objective.ts";
import type { BatchSource } from "./windows.ts";

/** An example as tokens. */
export interface TokenItem {
  readonly ids: readonly number[];
  /** A target for each token, or one for all of them, or an answer's first and last token; of a translation the tokens of the other side. */
  readonly targets: readonly number[];
  /** Segment of each token; default 0. */
  readonly segments?: readonly number[];
  /** So many first tokens see each other both ways. */
  readonly prefix?: number;
}

/** How items become padded batches. */
export interface ItemBatchOptions {
  readonly batch: number;
  /** Tokens of an item at most. */
  readonly length: number;
  /** So many targets an item, not one a token. */
  readonly targetsEach?: number;
  /** The inputs beside tokens and targets that the objective asks for. */
  readonly inputs: readonly ("lengths" | "segments" | "prefix_lengths")[];
  /** Changes an item each time that it is drawn, such as masking some of its words. */
  readonly vary?: (item: TokenItem, uniform: () => number) => TokenItem;
}

/** Lengths are rounded up to these shares of the longest: few plans, little padding. */
const BUCKET_SHARES = [1 / 4, 1 / 2, 3 / 4, 1];

/**
 * Batches of items of about the same length. Each epoch goes through all items once in an order of its own, which follows from seed and
 * epoch alone, as does what `vary` makes of them: so a position in it says all that is needed to go on.
 */
export class ItemBatches implements BatchSource {
  readonly #items: readonly TokenItem[];
  readonly #options: ItemBatchOptions;
  readonly #seed: number;
  #epoch = 0;
  #next = 0;
  #order: readonly Batch[] | undefined;

  /** Throws `USAGE` without items. */
  constructor(items: readonly TokenItem[], options: ItemBatchOptions, seed: number) {
    if (items.length === 0) throw new HeedError("USAGE", "data: at least one example is needed; got none.");
    this.#items = items;
    this.#options = options;
    this.#seed = seed;
  }

  next(): Batch {
    this.#order ??= this.#batches();
    if (this.#next >= this.#order.length) {
      this.#epoch++;
      this.#next = 0;
      this.#order = this.#batches();
    }
    return this.#order[this.#next++] as Batch;
  }

  state(): unknown {
    return { epoch: this.#epoch, next: this.#next };
  }

  restore(state: unknown): void {
    const { epoch, next } = (typeof state === "object" && state !== null ? state : {}) as Record<string, unknown>;
    if (!Number.isSafeInteger(epoch) || !Number.isSafeInteger(next)) {
      throw new HeedError("BAD_FILE", `data: a state of shuffled examples is needed; got ${JSON.stringify(state)}.`);
    }
    if (epoch !== this.#epoch) this.#order = undefined;
    this.#epoch = epoch as number;
    this.#next = next as number;
  }

  #batches(): Batch[] {
    const generator = new UniformGenerator(this.#seed + 0x9e3779b9 * (this.#epoch + 1));
    const uniform = (): number => generator.next();
    const items = shuffle([...this.#items], uniform);
    return shuffle([...orderedItems(items, this.#options, uniform)], uniform);
  }
}

/** Every item once, in batches of one bucket each. */
export function* orderedItems(
  items: readonly TokenItem[],
  options: ItemBatchOptions,
  uniform: () => number = () => 0.5,
): Generator<Batch> {
  const open = new Map<number, TokenItem[]>();
  for (const item of items) {
    const drawn = options.vary?.(item, uniform) ?? item;
    const bucket = bucketOf(drawn.ids.length, options.length);
    const group = open.get(bucket) ?? [];
    group.push(drawn);
    open.set(bucket, group);
    if (group.length < options.batch) continue;
    open.delete(bucket);
    yield itemBatch(group, bucket, options);
  }
  for (const [bucket, group] of open) yield itemBatch(group, bucket, options);
}

function bucketOf(length: number, longest: number): number {
  const sizes = BUCKET_SHARES.map((share) => (share === 1 ? longest : Math.ceil((share * longest) / 4) * 4));
  return sizes.find((size) => size >= length) ?? longest;
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
  // A sequence of padding alone attends to one token of it, so that no row is without keys.
  const lengths = new Uint32Array(batch).fill(1);
  group.forEach((item, b) => {
    const ids = item.ids.slice(0, length);
    tokens.set(ids, b * length);
    segments.set((item.segments ?? []).slice(0, length), b * length);
    targets.set(item.targets.slice(0, each), b * each);
    lengths[b] = Math.max(1, ids.length);
    prefixes[b] = Math.min(item.prefix ?? 0, ids.length);
  });
  const all = { lengths, segments, prefix_lengths: prefixes };
  const chosen = Object.fromEntries(inputs.map((name) => [name, all[name]]));
  const count = targets.reduce((sum, target) => sum + (target === IGNORED_TARGET ? 0 : 1), 0);
  const read = group.reduce((sum, { ids }) => sum + Math.min(ids.length, length), 0);
  return { shape: { batch, length }, inputs: { tokens, targets, ...chosen }, count, tokens: read };
}

function shuffle<T>(list: T[], uniform: () => number): T[] {
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(uniform() * (i + 1));
    [list[i], list[j]] = [list[j] as T, list[i] as T];
  }
  return list;
}
