import { HeedError } from "../core/errors.ts";
import { UniformGenerator } from "./initialise.ts";
import { IGNORED_TARGET } from "./losses.ts";
import type { Batch } from "./objective.ts";

/** Batches without end. Its state is plain JSON: a source that is given it goes on where the other stood. */
export interface BatchSource {
  next(): Batch | Promise<Batch>;
  state(): unknown;
  /** Throws `BAD_FILE` for what is no state of such a source. */
  restore(state: unknown): void;
}

/** Windows at random places of one long text, as nanoGPT draws them: each of `batch` rows is `length` tokens and their successors. */
export class RandomWindows implements BatchSource {
  readonly #ids: Uint32Array;
  readonly #batch: number;
  readonly #length: number;
  readonly #uniform: UniformGenerator;

  /** Throws `USAGE` for a text that has no window. */
  constructor(ids: Uint32Array, sizes: { readonly batch: number; readonly length: number }, seed: number) {
    if (ids.length <= sizes.length) {
      throw new HeedError(
        "USAGE",
        `data: a window of ${sizes.length} tokens and its next one is needed; got a text of ${ids.length} tokens. Shorten the windows or give more text.`,
      );
    }
    this.#ids = ids;
    this.#batch = sizes.batch;
    this.#length = sizes.length;
    this.#uniform = new UniformGenerator(seed);
  }

  next(): Batch {
    const places = this.#ids.length - this.#length;
    const starts = Array.from({ length: this.#batch }, () => Math.floor(this.#uniform.next() * places));
    return windowBatch(this.#ids, starts, this.#length);
  }

  state(): unknown {
    return { uniform: this.#uniform.state };
  }

  restore(state: unknown): void {
    const uniform = typeof state === "object" && state !== null && "uniform" in state ? state.uniform : undefined;
    if (!Number.isSafeInteger(uniform)) {
      throw new HeedError("BAD_FILE", `data: a state of random windows is needed; got ${JSON.stringify(state)}.`);
    }
    this.#uniform.state = uniform as number;
  }
}

/** A whole text in windows side by side, so that each token but the first is predicted once; at most `most` batches, spread evenly. */
export function* consecutiveWindows(
  ids: Uint32Array,
  sizes: { readonly batch: number; readonly length: number },
  most = Number.POSITIVE_INFINITY,
): Generator<Batch> {
  const { batch, length } = sizes;
  const windows = Math.ceil((ids.length - 1) / length);
  const batches = Math.ceil(windows / batch);
  const taken = Math.min(most, batches);
  for (let i = 0; i < taken; i++) {
    const first = Math.floor((i * batches) / taken) * batch;
    const starts = Array.from({ length: batch }, (_, b) => (first + b) * length);
    yield windowBatch(ids, starts, length);
  }
}

/** Rows of `length` tokens from the given places; what lies past the end of the text is padding that does not count. */
function windowBatch(ids: Uint32Array, starts: readonly number[], length: number): Batch {
  const tokens = new Uint32Array(starts.length * length);
  const targets = new Int32Array(starts.length * length).fill(IGNORED_TARGET);
  let count = 0;
  starts.forEach((start, b) => {
    const own = Math.max(0, Math.min(length, ids.length - 1 - start));
    tokens.set(ids.subarray(start, start + own), b * length);
    targets.set(ids.subarray(start + 1, start + 1 + own), b * length);
    count += own;
  });
  return { shape: { batch: starts.length, length }, inputs: { tokens, targets }, count, tokens: count };
}
