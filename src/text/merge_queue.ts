/** What two neighbours become, and how soon: lower ranks first, then the leftmost. */
export interface Merge<T> {
  readonly rank: number;
  readonly merged: T;
}

interface Candidate<T> extends Merge<T> {
  readonly at: number;
  readonly left: T;
  readonly right: T;
}

/**
 * Byte-pair encoding (Sennrich et al. 2016): joins neighbours, best rank first, until `find` has nothing for any two.
 * O(n log n) in the symbols, so that a text without word boundaries is no trouble.
 */
export function mergeSymbols<T>(symbols: readonly T[], find: (left: T, right: T) => Merge<T> | undefined): T[] {
  const now: (T | undefined)[] = [...symbols];
  const next = symbols.map((_, i) => i + 1);
  const previous = symbols.map((_, i) => i - 1);
  const queue = new Queue<T>();
  const offer = (at: number): void => {
    const to = at < 0 ? undefined : next[at];
    const [left, right] = [now[at], to === undefined ? undefined : now[to]];
    if (left === undefined || right === undefined) return;
    const merge = find(left, right);
    if (merge) queue.push({ ...merge, at, left, right });
  };
  for (let i = 0; i + 1 < symbols.length; i++) offer(i);
  for (let best = queue.pop(); best; best = queue.pop()) {
    const to = next[best.at] as number;
    // One of the two has been merged since.
    if (now[best.at] !== best.left || now[to] !== best.right) continue;
    now[best.at] = best.merged;
    now[to] = undefined;
    const after = next[to] as number;
    next[best.at] = after;
    if (after < now.length) previous[after] = best.at;
    offer(previous[best.at] as number);
    offer(best.at);
  }
  return now.filter((symbol) => symbol !== undefined);
}

/** A binary heap of candidates. */
class Queue<T> {
  readonly #heap: Candidate<T>[] = [];

  push(candidate: Candidate<T>): void {
    const heap = this.#heap;
    let i = heap.length;
    heap.push(candidate);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const above = heap[parent] as Candidate<T>;
      if (!comesBefore(candidate, above)) break;
      heap[i] = above;
      i = parent;
    }
    heap[i] = candidate;
  }

  pop(): Candidate<T> | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (!first || !last || heap.length === 0) return first;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      const right = heap[child + 1];
      if (right && comesBefore(right, heap[child] as Candidate<T>)) child++;
      const below = heap[child] as Candidate<T>;
      if (!comesBefore(below, last)) break;
      heap[i] = below;
      i = child;
    }
    heap[i] = last;
    return first;
  }
}

function comesBefore<T>(a: Candidate<T>, b: Candidate<T>): boolean {
  return a.rank < b.rank || (a.rank === b.rank && a.at < b.at);
}
