/** Between two looks; browsers stretch it to 4 ms when timers follow each other. */
const NUDGE_MS = 1;

/**
 * Lets Firefox see at once that the GPU is done. It looks for completion every 100 ms, and at each submit: an empty submit every
 * few milliseconds while something is waited for cuts a wait on lavapipe from 100 to 2 ms, and with it the time of a token.
 */
export class CompletionNudge {
  readonly #queue: Pick<GPUQueue, "submit">;
  #waits = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  private constructor(queue: Pick<GPUQueue, "submit">) {
    this.#queue = queue;
  }

  /** One for a queue in Firefox, in its pages and workers; undefined elsewhere. */
  static for(queue: Pick<GPUQueue, "submit">, agent = globalThis.navigator?.userAgent): CompletionNudge | undefined {
    return agent?.includes("Firefox/") ? new CompletionNudge(queue) : undefined;
  }

  /** A wait begins. */
  enter(): void {
    this.#waits++;
    this.#timer ??= setTimeout(() => this.#nudge(), NUDGE_MS);
  }

  /** A wait ends. */
  leave(): void {
    this.#waits--;
  }

  #nudge(): void {
    this.#timer = undefined;
    if (this.#waits === 0) return;
    this.#queue.submit([]);
    this.#timer = setTimeout(() => this.#nudge(), NUDGE_MS);
  }
}
