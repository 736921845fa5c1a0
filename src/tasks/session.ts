import { HeedError } from "../core/errors.ts";
import type { CachedSequence } from "../nn/kv_cache.ts";
import { prefixOf } from "../nn/prefix.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { resolveAttention } from "../inspect/attention_request.ts";
import { AttentionWatch } from "./attention_watch.ts";
import type { Batcher } from "./batcher.ts";
import type { DecoderRuntime } from "./decoder_runtime.ts";
import { GenerationTask, type GenerationResult, type GenerationStats } from "./generation.ts";
import {
  type GenerateOptions,
  type GenerationDefaults,
  type ResolvedGeneration,
  resolveGeneration,
  checkTokens,
  tokenBudget,
} from "./generation_options.ts";
import { type PreparedGeneration, runOne } from "./many.ts";

/** What a session works with; the model owns all of it. */
export interface SessionParts {
  readonly runtime: DecoderRuntime;
  readonly batcher: Batcher;
  readonly tokenizer: Tokenizer | undefined;
  readonly defaults: GenerationDefaults;
}

/**
 * Text that arrives piece by piece. Nothing runs before it is iterated or its `result` is asked for; leaving the loop
 * early stops the generation.
 */
export class Generation implements AsyncIterable<string> {
  readonly #start: () => GenerationTask;
  readonly #finished: (task: GenerationTask) => void;
  readonly #peakBytes: () => number;
  #task: GenerationTask | undefined;
  #result: Promise<GenerationResult> | undefined;
  #read = false;

  constructor(start: () => GenerationTask, finished: (task: GenerationTask) => void, peakBytes: () => number) {
    this.#start = start;
    this.#finished = finished;
    this.#peakBytes = peakBytes;
  }

  /** Settles when the generation has ended. An abort is a result too (`finish: "abort"`); failures reject. */
  get result(): Promise<GenerationResult> {
    this.#result ??= this.#awaitResult();
    return this.#result;
  }

  async *[Symbol.asyncIterator](): AsyncIterator<string> {
    if (this.#read)
      throw new HeedError(
        "USAGE",
        "generate: a generation can be iterated once; got a second reader. Ask for its result instead.",
      );
    this.#read = true;
    const task = this.#begin();
    try {
      for (;;) {
        const piece = await task.next();
        if (piece === undefined) return;
        yield piece;
      }
    } finally {
      task.cancel();
      await task.done;
    }
  }

  #begin(): GenerationTask {
    if (!this.#task) {
      const task = this.#start();
      this.#task = task;
      void task.done.then(() => this.#finished(task));
    }
    return this.#task;
  }

  async #awaitResult(): Promise<GenerationResult> {
    const task = this.#begin();
    await task.done;
    if (task.error !== undefined) throw task.error;
    const { promptLength, ids } = task;
    return {
      text: task.text,
      ids: {
        prompt: ids.slice(0, promptLength),
        generated: ids.slice(promptLength),
        ...(task.encoderIds ? { source: task.encoderIds } : {}),
      },
      finish: task.finish ?? "abort",
      seed: task.options.seed,
      ...(task.options.logprobs === undefined ? {} : { logprobs: task.logprobs }),
      ...(task.sequences ? { score: task.sequences[0]?.score, sequences: task.sequences } : {}),
      stats: { ...timings(task), peakGpuBytes: this.#peakBytes() },
      ...(task.attention && !task.attention.calls ? { attention: task.attention.steps } : {}),
    };
  }
}

function timings(task: GenerationTask): Omit<GenerationStats, "peakGpuBytes"> {
  const generated = task.generatedTokens;
  const decodeMs = task.lastTokenAt - task.firstTokenAt;
  return {
    promptTokens: task.encoderIds?.length ?? task.promptLength,
    generatedTokens: generated,
    timeToFirstTokenMs: generated > 0 ? task.firstTokenAt - task.startedAt : 0,
    tokensPerSecond: generated > 1 && decodeMs > 0 ? ((generated - 1) * 1000) / decodeMs : 0,
  };
}

/**
 * A conversation with a model: the ids so far and their keys and values on the GPU. Sessions of one model that
 * generate at the same time are decoded together. Dispose it to give its pages back.
 */
export class Session {
  readonly #parts: SessionParts;
  #opened: CachedSequence | undefined;
  #ids: number[];
  #busy = false;
  #disposed = false;

  /** Use {@link TextModel.session}. */
  constructor(parts: SessionParts, sequence?: CachedSequence, ids: readonly number[] = []) {
    this.#parts = parts;
    this.#opened = sequence;
    this.#ids = [...ids];
  }

  /** Every token so far, prompt and generated. */
  get ids(): readonly number[] {
    return this.#ids;
  }

  get length(): number {
    return this.#ids.length;
  }

  /** Adds text or ids and computes their keys and values. On an error or abort the session is as it was. */
  async append(prompt: string | readonly number[], options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    this.#checkIdle("append");
    const ids = this.#encode(prompt);
    this.#busy = true;
    try {
      // The last token stays out of the cache: the first decode step computes it together with its logits.
      await this.#parts.runtime.prefill(
        this.#sequence,
        [...this.#ids, ...ids].slice(this.#sequence.length, -1),
        options.signal,
      );
      this.#ids.push(...ids);
    } finally {
      this.#busy = false;
      if (this.#disposed) this.#opened?.dispose();
    }
  }

  /**
   * Continues the session, after `prompt` if one is given. What is generated becomes part of the session. With `once`,
   * the session is disposed when the generation ends.
   */
  generate(
    prompt: string | readonly number[] = [],
    options: GenerateOptions = {},
    lifetime: { readonly once?: boolean } = {},
  ): Generation {
    return runOne(this.#parts, this.prepare(prompt, options, lifetime));
  }

  /** What {@link generate} starts, checked and not yet opened; for {@link TextModel.generateAll}. */
  prepare(
    prompt: string | readonly number[],
    options: GenerateOptions,
    lifetime: { readonly once?: boolean } = {},
  ): PreparedGeneration {
    this.#checkIdle("generate");
    const resolved = resolveGeneration(options, this.#parts.defaults);
    if (options.stop !== undefined && !this.#parts.tokenizer) {
      throw new HeedError(
        "USAGE",
        "generate: stop strings need tokenizer.json, which the checkpoint lacks. Leave them out, or add the file.",
      );
    }
    // Checked here, so that a wrong prompt throws at once; and again at the start, because the session may have grown.
    const { ids: first } = this.#prompt(prompt, resolved);
    checkTokens(options, first.length, this.#parts.runtime.decoder.facts.vocabSize);
    const request =
      options.attention && resolveAttention("generate", options.attention, this.#parts.runtime.decoder.facts);
    const open = () => {
      this.#checkIdle("generate");
      const { ids, maxTokens } = this.#prompt(prompt, resolved);
      const sequence = this.#sequence;
      if (sequence.length === ids.length) sequence.rewind(ids.length - 1);
      const task = new GenerationTask(
        sequence,
        ids,
        maxTokens,
        resolved,
        this.#parts.tokenizer?.detokenizer({ after: ids }),
        request && new AttentionWatch(request, options.attention?.onStep),
      );
      this.#busy = true;
      return task;
    };
    const finished = (task: GenerationTask) => {
      this.#busy = false;
      this.#ids = [...task.ids];
      if (lifetime.once) this.#disposed = true;
      if (this.#disposed) this.#opened?.dispose();
    };
    const generation = (start: () => GenerationTask) =>
      new Generation(start, finished, () => this.#parts.runtime.device.peakBytes);
    return { beams: resolved.beams.beams, open, generation };
  }

  /** Forgets all but the first `length` tokens. */
  rewind(length: number): void {
    this.#checkIdle("rewind");
    if (!Number.isInteger(length) || length < 0 || length > this.#ids.length) {
      throw new HeedError("USAGE", `session: rewind to a length between 0 and ${this.#ids.length}; got ${length}`);
    }
    this.#sequence.rewind(Math.min(length, this.#sequence.length));
    this.#ids.length = length;
  }

  /** A second session with the same tokens; both share their full pages, and at most one page a layer is copied later. */
  fork(): Session {
    this.#checkIdle("fork");
    return new Session(this.#parts, this.#sequence.fork(), this.#ids);
  }

  /** Gives the pages back; a running generation ends first. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (!this.#busy) this.#opened?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** All ids that a generation would start from, and how many it may add. */
  #prompt(prompt: string | readonly number[], options: ResolvedGeneration): { ids: number[]; maxTokens: number } {
    const ids = [...this.#ids, ...this.#encode(prompt)];
    const prefix = prefixOf("generate", options.prefixLength, ids.length);
    if (prefix > 0 && (this.#opened?.length ?? 0) > 0) {
      throw new HeedError(
        "USAGE",
        "generate: prefixLength needs a session whose tokens are not computed yet. Open a new session.",
      );
    }
    if (ids.length === 0) throw new HeedError("USAGE", "generate: the prompt must have at least one token; got none.");
    return { ids, maxTokens: tokenBudget(options, ids.length, this.#parts.runtime.contextLength) };
  }

  /** A place in the cache, taken at first use. */
  get #sequence(): CachedSequence {
    this.#opened ??= this.#parts.runtime.cache.open();
    return this.#opened;
  }

  #encode(prompt: string | readonly number[]): number[] {
    if (typeof prompt !== "string") {
      this.#parts.runtime.checkIds(prompt);
      return [...prompt];
    }
    const { tokenizer } = this.#parts;
    if (!tokenizer)
      throw new HeedError(
        "BAD_FILE",
        "generate: a text prompt needs tokenizer.json, which the checkpoint lacks. Give token ids, or add the file.",
      );
    const ids =
      prompt === "" && this.#ids.length > 0
        ? []
        : tokenizer.encode(prompt, { addSpecialTokens: this.#ids.length === 0 });
    this.#parts.runtime.checkIds(ids, { text: true });
    return ids;
  }

  #checkIdle(what: string): void {
    if (this.#disposed) throw new HeedError("DISPOSED", `session: ${what} after dispose. Open a new session.`);
    if (this.#busy)
      throw new HeedError(
        "USAGE",
        `session: ${what} while it is generating. Wait for the result, or fork the session first.`,
      );
  }
}
