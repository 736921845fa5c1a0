import { HeedError } from "../core/errors.ts";
import { UniformGenerator } from "./initialise.ts";
import type { Batch } from "./objective.ts";

/** Batches without end. Its state is plain JSON: a source that is given it goes on where the other stood. */
export interface BatchSource {
  next(): Batch | Promise<Batch>;
  state(): unknown;
  /** Throws `BAD_FILE` for what is no state of such a source. */
  restore(state: unknown): void;
}

/** How examples become padded batches. */
export interface Batching<Item> {
  /** All examples in groups of one batch each, of about the same length; `uniform` is for what is drawn anew each time, such as masks. */
  groups(items: readonly Item[], uniform: () => number): readonly (readonly Item[])[];
  batch(group: readonly Item[]): Batch;
  /** Groups are put in another order, too, after the examples. */
  readonly shufflesGroups: boolean;
  /** Examples stay in their order: groups alone are shuffled. */
  readonly keepsOrder?: boolean;
}

/** The examples of a line of a file. */
export interface ItemLine<Item> {
  /** From 1, rising. */
  readonly line: number;
  readonly items: readonly Item[];
}

/** Examples of which not all fit into memory. */
export interface ItemStream<Item> {
  /** What comes after so many lines. */
  read(afterLine: number): AsyncIterable<ItemLine<Item>>;
  /** Lines whose examples are held, and shuffled among each other. */
  readonly buffer: number;
}

/** Of the masks in evaluations: the same ones each time. */
const EVALUATION_SEED = 1;

/** Every example once, in a fixed order; at most `most` batches. */
export function* orderedBatches<Item>(
  items: readonly Item[],
  batching: Batching<Item>,
  most = Number.POSITIVE_INFINITY,
): Generator<Batch> {
  const generator = new UniformGenerator(EVALUATION_SEED);
  for (const [i, group] of batching.groups(items, () => generator.next()).entries()) {
    if (i >= most) return;
    yield batching.batch(group);
  }
}

/**
 * Each epoch goes through all examples once, in an order of its own, which follows from seed and epoch alone, as does what is drawn
 * for them: so a position in it says all that is needed to go on.
 */
export class EpochBatches<Item> implements BatchSource {
  readonly #items: readonly Item[];
  readonly #batching: Batching<Item>;
  readonly #seed: number;
  #epoch = 0;
  #next = 0;
  #order: readonly (readonly Item[])[] | undefined;

  /** Throws `USAGE` without examples. */
  constructor(items: readonly Item[], batching: Batching<Item>, seed: number) {
    if (items.length === 0) throw new HeedError("USAGE", "data: at least one example is needed; got none.");
    this.#items = items;
    this.#batching = batching;
    this.#seed = seed;
  }

  next(): Batch {
    this.#order ??= this.#shuffled();
    if (this.#next >= this.#order.length) {
      this.#epoch++;
      this.#next = 0;
      this.#order = this.#shuffled();
    }
    return this.#batching.batch(this.#order[this.#next++] as readonly Item[]);
  }

  state(): unknown {
    return { epoch: this.#epoch, next: this.#next };
  }

  restore(state: unknown): void {
    const { epoch, next } = wholeNumbers(state, ["epoch", "next"]);
    if (epoch !== this.#epoch) this.#order = undefined;
    this.#epoch = epoch;
    this.#next = next;
  }

  #shuffled(): readonly (readonly Item[])[] {
    return shuffledGroups(this.#items, this.#batching, this.#seed + 0x9e3779b9 * (this.#epoch + 1));
  }
}

/**
 * The same for examples that are read as they are needed: a buffer of them at a time is shuffled and made into batches, then the next. The
 * order follows from seed, epoch and the line that the buffer begins after, so these and the place in it are the whole position.
 */
export class StreamedBatches<Item> implements BatchSource {
  readonly #stream: ItemStream<Item>;
  readonly #batching: Batching<Item>;
  readonly #seed: number;
  #position = { epoch: 0, line: 0, next: 0 };
  /** Whether this epoch had any batch: a file of empty lines would be read for ever. */
  #hasAny = false;
  #buffer: FilledBuffer<Item> | undefined;
  /** Reads on behind the buffer, so that a file is gone through once an epoch. */
  #reader: { readonly lines: AsyncIterator<ItemLine<Item>>; readonly line: number } | undefined;

  constructor(stream: ItemStream<Item>, batching: Batching<Item>, seed: number) {
    this.#stream = stream;
    this.#batching = batching;
    this.#seed = seed;
  }

  async next(): Promise<Batch> {
    this.#buffer ??= await this.#fill();
    while (this.#position.next >= this.#buffer.groups.length) {
      const { endLine, isLast } = this.#buffer;
      const { epoch } = this.#position;
      if (isLast && !this.#hasAny) throw new HeedError("USAGE", "data: at least one example is needed; got none.");
      if (isLast) this.#hasAny = false;
      this.#position = isLast ? { epoch: epoch + 1, line: 0, next: 0 } : { epoch, line: endLine, next: 0 };
      this.#buffer = await this.#fill();
    }
    const group = this.#buffer.groups[this.#position.next] as readonly Item[];
    this.#position = { ...this.#position, next: this.#position.next + 1 };
    this.#hasAny = true;
    return this.#batching.batch(group);
  }

  state(): unknown {
    return { ...this.#position };
  }

  restore(state: unknown): void {
    const { epoch, line, next } = wholeNumbers(state, ["epoch", "line", "next"]);
    if (epoch !== this.#position.epoch || line !== this.#position.line) this.#buffer = undefined;
    this.#position = { epoch, line, next };
    this.#hasAny = line > 0 || next > 0;
  }

  /** Reads the buffer that begins at the position. */
  async #fill(): Promise<FilledBuffer<Item>> {
    const { epoch, line } = this.#position;
    if (this.#reader?.line !== line || line === 0) {
      await this.#reader?.lines.return?.();
      this.#reader = { lines: this.#stream.read(line)[Symbol.asyncIterator](), line };
    }
    const { lines } = this.#reader;
    const items: Item[] = [];
    let endLine = 0;
    for (let held = 0; held < this.#stream.buffer; held++) {
      const { done, value } = await lines.next().catch((error: unknown) => {
        // It has ended: whoever tries again reads the file again, and does not take this for its end.
        this.#reader = undefined;
        throw error;
      });
      if (done) return this.#filled(items, { epoch, line, endLine, isLast: true });
      items.push(...value.items);
      endLine = value.line;
    }
    this.#reader = { lines, line: endLine };
    return this.#filled(items, { epoch, line, endLine, isLast: false });
  }

  #filled(
    items: readonly Item[],
    { epoch, line, endLine, isLast }: { epoch: number; line: number; endLine: number; isLast: boolean },
  ): FilledBuffer<Item> {
    if (isLast) this.#reader = undefined;
    const seed = (this.#seed + Math.imul(epoch + 1, 0x9e3779b9) + Math.imul(line + 1, 0x85ebca6b)) >>> 0;
    return { groups: shuffledGroups(items, this.#batching, seed), endLine, isLast };
  }
}

interface FilledBuffer<Item> {
  readonly groups: readonly (readonly Item[])[];
  /** The last line that it holds; 0 at the end of the file. */
  readonly endLine: number;
  /** The file ends with it. */
  readonly isLast: boolean;
}

function shuffledGroups<Item>(
  items: readonly Item[],
  batching: Batching<Item>,
  seed: number,
): readonly (readonly Item[])[] {
  const generator = new UniformGenerator(seed);
  const uniform = (): number => generator.next();
  const groups = batching.groups(batching.keepsOrder ? items : shuffle([...items], uniform), uniform);
  return batching.shufflesGroups ? shuffle([...groups], uniform) : groups;
}

/** Puts a list in another order, in place. */
export function shuffle<T>(list: T[], uniform: () => number): T[] {
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(uniform() * (i + 1));
    [list[i], list[j]] = [list[j] as T, list[i] as T];
  }
  return list;
}

/** The lengths that batches are padded to: these shares of the longest, rising, multiples of 4 but for the last. Few plans, little padding. */
export function bucketLengths(longest: number, shares: readonly number[]): number[] {
  const lengths = shares.map((share) => (share === 1 ? longest : Math.ceil((share * longest) / 4) * 4));
  return [...new Set(lengths)].filter((n) => n <= longest);
}

/** Groups of up to `size` items of one bucket, in the order in which they fill up; what is left over at the end are groups, too. */
export function grouped<Item>(
  items: Iterable<Item>,
  size: number,
  bucketOf: (item: Item) => number,
): (readonly Item[])[] {
  const open = new Map<number, Item[]>();
  const full: Item[][] = [];
  for (const item of items) {
    const bucket = bucketOf(item);
    const group = open.get(bucket) ?? [];
    group.push(item);
    open.set(bucket, group);
    if (group.length < size) continue;
    full.push(group);
    open.delete(bucket);
  }
  return [...full, ...open.values()];
}

function wholeNumbers<Name extends string>(state: unknown, names: readonly Name[]): Record<Name, number> {
  const given = (typeof state === "object" && state !== null ? state : {}) as Record<Name, unknown>;
  if (names.every((name) => Number.isSafeInteger(given[name]))) return given as Record<Name, number>;
  throw new HeedError("BAD_FILE", `data: a state of shuffled examples is needed; got ${JSON.stringify(state)}.`);
}
