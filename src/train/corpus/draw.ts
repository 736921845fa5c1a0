import { uniformGenerator } from "../initialise.ts";

/** Choices by a seed: the same seed chooses the same. */
export class Draw {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = uniformGenerator(seed);
  }

  /** A number in [0, 1). */
  uniform(): number {
    return this.#next();
  }

  /** True in that share of all cases. */
  chance(share: number): boolean {
    return this.#next() < share;
  }

  /** A whole number from `low` to `high`, both included. */
  integer(low: number, high: number): number {
    return low + Math.floor(this.#next() * (high - low + 1));
  }

  /** One of a list, which is not empty. */
  from<T>(list: readonly T[]): T {
    return list[Math.floor(this.#next() * list.length)] as T;
  }

  /** One of a list by weight. */
  weighted<T extends { readonly weight: number }>(list: readonly T[]): T {
    let rest = this.#next() * list.reduce((sum, { weight }) => sum + weight, 0);
    for (const item of list) {
      rest -= item.weight;
      if (rest < 0) return item;
    }
    return list[list.length - 1] as T;
  }

  /** Puts a list into a random order, in place (Fisher and Yates). */
  shuffle<T>(list: T[]): T[] {
    for (let i = list.length - 1; i > 0; i--) {
      const j = this.integer(0, i);
      [list[i], list[j]] = [list[j] as T, list[i] as T];
    }
    return list;
  }
}
