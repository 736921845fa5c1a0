/** A pair of neighbouring symbols that is taken out of the queue: how often it occurs, and in which words it may. */
export interface CountedPair {
  readonly left: number;
  readonly right: number;
  readonly count: number;
  readonly words: Iterable<number>;
}

interface Entry {
  readonly left: number;
  readonly right: number;
  count: number;
}

// Ids stay below it, so that a pair is one exact number.
const BASE = 2 ** 26;

/** Counted pairs, the most frequent first; of equal ones that with the smaller ids. Counts that fell are noticed when taken. */
export class PairQueue {
  readonly #counts = new Map<number, number>();
  readonly #words = new Map<number, Set<number>>();
  /** Pairs whose count rose since the last {@link settle}. */
  readonly #risen = new Set<number>();
  readonly #heap: Entry[] = [];

  /** Counts an occurrence of a pair in a word. */
  add(left: number, right: number, count: number, word: number): void {
    const key = left * BASE + right;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + count);
    const words = this.#words.get(key);
    if (words) words.add(word);
    else this.#words.set(key, new Set([word]));
    this.#risen.add(key);
  }

  /** Takes an occurrence back. */
  remove(left: number, right: number, count: number): void {
    const key = left * BASE + right;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) - count);
  }

  /** Lets pairs that were added be taken. */
  settle(): void {
    for (const key of this.#risen) {
      const right = key % BASE;
      this.#push({ left: (key - right) / BASE, right, count: this.#counts.get(key) ?? 0 });
    }
    this.#risen.clear();
  }

  /** The most frequent pair, or undefined where none occurs. */
  take(): CountedPair | undefined {
    for (;;) {
      const top = this.#pop();
      if (!top) return undefined;
      const key = top.left * BASE + top.right;
      const count = this.#counts.get(key) ?? 0;
      if (count < 1) continue;
      if (count !== top.count) {
        this.#push({ ...top, count });
        continue;
      }
      const words = this.#words.get(key) ?? new Set<number>();
      this.#words.delete(key);
      this.#counts.delete(key);
      return { left: top.left, right: top.right, count, words };
    }
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let i = heap.push(entry) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!isBefore(entry, heap[parent] as Entry)) break;
      heap[i] = heap[parent] as Entry;
      i = parent;
    }
    heap[i] = entry;
  }

  #pop(): Entry | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (!top || !last || heap.length === 0) return top;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Entry, heap[child] as Entry)) child++;
      if (!isBefore(heap[child] as Entry, last)) break;
      heap[i] = heap[child] as Entry;
      i = child;
    }
    heap[i] = last;
    return top;
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  if (a.count !== b.count) return a.count > b.count;
  return a.left === b.left ? a.right < b.right : a.left < b.left;
}
