/** Longest nap, and its share of the time waited so far: a wait is prolonged by less than a tenth. */
const MAX_NAP_MS = 0.5;
const NAP_SHARE = 0.1;
const MIN_NAP_MS = 0.05;

/**
 * Lets the event loop of Node sleep between its turns while the GPU is waited for. Dawn's binding asks for completion at
 * every turn (`setImmediate`), so that a waiting process takes a whole core, which a software adapter needs for its own
 * work: with naps a decode step of GPT-2 124M on lavapipe takes 170 ms of CPU time instead of 262. Short waits are not touched.
 */
export class GentleWait {
  readonly #cell = new Int32Array(new SharedArrayBuffer(4));
  readonly #nextTurn: (turn: () => void) => void;
  #waits = 0;
  #since = 0;
  #scheduled = false;

  private constructor(nextTurn: (turn: () => void) => void) {
    this.#nextTurn = nextTurn;
  }

  /** One for a software adapter in Node; undefined elsewhere, where waiting costs nothing or must not block. */
  static for(software: boolean): GentleWait | undefined {
    const host = globalThis as {
      setImmediate?: (turn: () => void) => void;
      process?: { versions?: { node?: string } };
    };
    return software && host.process?.versions?.node && host.setImmediate
      ? new GentleWait(host.setImmediate)
      : undefined;
  }

  /** A wait begins. */
  enter(): void {
    this.#waits++;
    this.#progress();
  }

  /** A wait ends. */
  leave(): void {
    this.#waits--;
    this.#progress();
  }

  #progress(): void {
    this.#since = performance.now();
    if (this.#waits === 0 || this.#scheduled) return;
    this.#scheduled = true;
    this.#nextTurn(() => this.#nap());
  }

  #nap(): void {
    this.#scheduled = false;
    if (this.#waits === 0) return;
    const nap = Math.min(MAX_NAP_MS, (performance.now() - this.#since) * NAP_SHARE);
    if (nap >= MIN_NAP_MS) Atomics.wait(this.#cell, 0, 0, nap);
    this.#scheduled = true;
    this.#nextTurn(() => this.#nap());
  }
}
