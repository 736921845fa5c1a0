import { HeedError } from "../core/errors.ts";

/**
 * What every loaded model shares: the calls that run on it are known, and its memory is freed once they have ended. Whoever loaded
 * it disposes it.
 */
export abstract class LoadedModel {
  readonly #runs = new Set<Promise<unknown>>();
  #disposed: Promise<void> | undefined;
  #onDispose: ((model: this) => void) | undefined;

  /** Ends what is running with `DISPOSED`, then frees the GPU memory. Idempotent. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#end();
    return this.#disposed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** Has `listener` called once the model is disposed; for its engine. */
  whenDisposed(listener: (model: this) => void): this {
    this.#onDispose = listener;
    return this;
  }

  /** Ends what is running, or waits for it. */
  protected abstract stop(): Promise<void>;

  /** Frees what the model holds; nothing runs on it any more. */
  protected abstract free(): Promise<void>;

  /** Throws `DISPOSED` in the name of `op` after {@link dispose}. */
  protected checkUsable(op: string): void {
    if (this.#disposed) throw new HeedError("DISPOSED", `${op}: the model was disposed. Load it again.`);
  }

  /** Runs a call that disposal has to wait for. */
  protected async track<T>(op: string, work: () => Promise<T>): Promise<T> {
    this.checkUsable(op);
    const running = work();
    this.#runs.add(running);
    try {
      return await running;
    } finally {
      this.#runs.delete(running);
    }
  }

  async #end(): Promise<void> {
    await this.stop();
    await Promise.allSettled(this.#runs);
    await this.free();
    this.#onDispose?.(this);
  }
}
