import { HeedError } from "../core/errors.ts";
import { type Batching, type BatchSource, shuffle } from "./batches.ts";
import { UniformGenerator } from "./initialise.ts";
import { IGNORED_TARGET } from "./losses.ts";
import type { Batch } from "./objective.ts";

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

/** Rows of `length` tokens from the given places; what lies past the end of the text, or of a row's own, is padding that does not count. */
function windowBatch(ids: Uint32Array, starts: readonly number[], length: number, ends?: readonly number[]): Batch {
  const tokens = new Uint32Array(starts.length * length);
  const targets = new Int32Array(starts.length * length).fill(IGNORED_TARGET);
  let count = 0;
  starts.forEach((start, b) => {
    const end = ends ? (ends[b] ?? start) : ids.length;
    const own = Math.max(0, Math.min(length, end - 1 - start));
    tokens.set(ids.subarray(start, start + own), b * length);
    targets.set(ids.subarray(start + 1, start + 1 + own), b * length);
    count += own;
  });
  return { shape: { batch: starts.length, length }, inputs: { tokens, targets }, count, tokens: count };
}

/**
 * Texts that are read piece by piece, as one text: the tokens of the lines that are held, one behind the other, in windows side by side, which
 * begin at another place each time. A window is predicted whole; the one at the end may be shorter.
 */
export function windowBatching({
  batch,
  length,
}: {
  readonly batch: number;
  readonly length: number;
}): Batching<Uint32Array> {
  return {
    groups(lines, uniform) {
      const ids = new Uint32Array(lines.reduce((sum, line) => sum + line.length, 0));
      let at = 0;
      for (const line of lines) {
        ids.set(line, at);
        at += line.length;
      }
      const windows: Uint32Array[] = [];
      // One token more than a window: the last one's successor.
      for (let from = Math.floor(uniform() * length); from + 1 < ids.length; from += length)
        windows.push(ids.subarray(from, from + length + 1));
      shuffle(windows, uniform);
      const count = Math.ceil(windows.length / batch);
      return Array.from({ length: count }, (_, i) => windows.slice(i * batch, (i + 1) * batch));
    },
    batch: (group) => {
      const joined = new Uint32Array(batch * (length + 1));
      for (const [b, window] of group.entries()) joined.set(window, b * (length + 1));
      const ends = group.map((window, b) => b * (length + 1) + window.length);
      const starts = Array.from({ length: batch }, (_, b) => b * (length + 1));
      return windowBatch(joined, starts, length, ends);
    },
    shufflesGroups: false,
    keepsOrder: true,
  };
}
