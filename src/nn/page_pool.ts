import { HeedError, invariant } from "../core/errors.ts";
import { PAGE_TOKENS } from "../ops/kv_append.ts";

/** Counts who uses which page of the KV cache. A page that several sequences share is never written. */
export class PagePool {
  readonly #uses: Uint32Array;
  readonly #free: number[];

  constructor(pages: number) {
    this.#uses = new Uint32Array(pages);
    this.#free = Array.from({ length: pages }, (_, i) => pages - 1 - i);
  }

  get pages(): number {
    return this.#uses.length;
  }

  /** Takes a free page. Throws `LIMIT` when there is none. */
  allocate(): number {
    const page = this.#free.pop();
    if (page === undefined) {
      throw new HeedError(
        "LIMIT",
        `kv cache: all ${this.pages} pages of ${PAGE_TOKENS} tokens are in use. Dispose sessions, or load the model with a larger cacheTokens.`,
      );
    }
    this.#uses[page] = 1;
    return page;
  }

  share(page: number): number {
    invariant(this.isUsed(page), `page ${page} is shared while free`);
    this.#uses[page] = (this.#uses[page] ?? 0) + 1;
    return page;
  }

  isShared(page: number): boolean {
    return (this.#uses[page] ?? 0) > 1;
  }

  isUsed(page: number): boolean {
    return (this.#uses[page] ?? 0) > 0;
  }

  release(page: number): void {
    invariant(this.isUsed(page), `page ${page} is released twice`);
    const uses = (this.#uses[page] ?? 0) - 1;
    this.#uses[page] = uses;
    if (uses === 0) this.#free.push(page);
  }
}
