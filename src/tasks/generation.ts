import type { CachedSequence } from "../nn/kv_cache.ts";
import { prefixOf } from "../nn/prefix.ts";
import type { Detokenizer } from "../text/detokenizer.ts";
import { createStopMatcher, type StopMatcher } from "../text/stop_strings.ts";
import type { AttentionStep, AttentionWatch } from "./attention_watch.ts";
import type { DecoderRuntime } from "./decoder_runtime.ts";
import type { ResolvedGeneration } from "./generation_options.ts";
import type { GeneratedLogprob } from "./logprobs.ts";
import type { RuledTokens } from "./token_rules.ts";

/** Why a generation ended: an end token or stop string, the token limit, or an abort. */
export type Finish = "stop" | "length" | "abort";

/** Times are in milliseconds, on the host's clock. */
export interface GenerationStats {
  /** Of the source, in encoder–decoders. */
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** From the call to the first token on the host. */
  readonly timeToFirstTokenMs: number;
  /** Of the tokens after the first; 0 for fewer than two. */
  readonly tokensPerSecond: number;
  /** The most GPU memory that Heed has held so far. */
  readonly peakGpuBytes: number;
}

export interface GenerationResult {
  /** What was generated, without the prompt and without the stop string. */
  readonly text: string;
  readonly ids: {
    /** In encoder–decoders what the decoder read first. */
    readonly prompt: readonly number[];
    readonly generated: readonly number[];
    /** What the encoder read, in encoder–decoders. */
    readonly source?: readonly number[];
  };
  readonly finish: Finish;
  readonly seed: number;
  readonly stats: GenerationStats;
  /** One entry a generated token, if `logprobs` was asked for. */
  readonly logprobs?: readonly GeneratedLogprob[];
  /** Of a beam search: the sum of the tokens' log-probabilities, divided by the length penalty. */
  readonly score?: number;
  /** Of a beam search: the `numReturn` best, this one first. */
  readonly sequences?: readonly GeneratedSequence[];
  /** One entry a generated token, if attention was asked for without `onStep`: how the token before it attended. */
  readonly attention?: readonly AttentionStep[];
}

/** One of the results of a beam search. */
export interface GeneratedSequence {
  readonly text: string;
  readonly ids: readonly number[];
  readonly score: number;
  /** Of each token, as rules and penalties left them. */
  readonly logprobs: readonly number[];
}

/**
 * One running generation: the sequence it extends, what it has produced, and the pieces that its reader has not taken
 * yet. The batcher feeds it tokens; the reader iterates it.
 */
export class GenerationTask {
  readonly sequence: CachedSequence;
  readonly options: ResolvedGeneration;
  readonly maxTokens: number;
  /** So many first tokens see each other both ways. */
  readonly prefixLength: number;
  readonly attention: AttentionWatch | undefined;
  /** Prompt and generated ids; the last one is not yet in the cache. */
  readonly ids: number[];
  readonly promptLength: number;
  /** In encoder–decoders: the source, which is encoded before the first step unless the sequence has its memory. */
  encoderIds: readonly number[] | undefined;
  /** One entry a generated token, where they are asked for. */
  readonly logprobs: GeneratedLogprob[] = [];
  /** What a beam search found, the best first. */
  sequences: readonly GeneratedSequence[] | undefined;
  readonly startedAt = performance.now();
  firstTokenAt = 0;
  lastTokenAt = 0;
  finish: Finish | undefined;
  error: unknown;
  /** Resolves when it has ended and nothing of it is on the GPU any more: its sequence may be used again. */
  readonly done: Promise<void>;
  #settled = false;
  #cancelled = false;
  #settle!: () => void;
  #text = "";
  readonly #detokenizer: Detokenizer | undefined;
  readonly #stops: StopMatcher;
  readonly #pieces: string[] = [];
  #wake: (() => void) | undefined;

  constructor(
    sequence: CachedSequence,
    ids: readonly number[],
    maxTokens: number,
    options: ResolvedGeneration,
    detokenizer: Detokenizer | undefined,
    attention?: AttentionWatch,
  ) {
    this.sequence = sequence;
    this.ids = [...ids];
    this.promptLength = ids.length;
    this.maxTokens = maxTokens;
    this.prefixLength = prefixOf("generate", options.prefixLength, ids.length);
    this.options = options;
    this.attention = attention;
    this.#detokenizer = detokenizer;
    this.#stops = createStopMatcher(options.stop);
    this.done = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  get generatedTokens(): number {
    return this.ids.length - this.promptLength;
  }

  /** Where it stands, as its rules see it. */
  get ruled(): RuledTokens {
    const { ids, promptLength, maxTokens, options } = this;
    return { ids, promptLength, maxTokens, eosIds: options.eosIds };
  }

  get text(): string {
    return this.#text;
  }

  /** Takes the next token from the GPU. The previous last token is in the cache now. */
  accept(id: number): void {
    this.sequence.advance(1);
    this.take(id);
  }

  /** Takes a token that is not in the cache, from a search that has ended. */
  take(id: number): void {
    this.ids.push(id);
    this.lastTokenAt = performance.now();
    if (this.generatedTokens === 1) this.firstTokenAt = this.lastTokenAt;
    if (this.options.eosIds.includes(id)) {
      this.end("stop");
      return;
    }
    const { text, stop } = this.#stops.push(this.#detokenizer?.push(id) ?? "");
    this.#emit(text);
    if (stop !== undefined) this.end("stop");
    else if (this.generatedTokens >= this.maxTokens) this.end("length");
  }

  /** Ends the generation and gives out the text that was held back (none after a stop string). */
  end(finish: Finish): void {
    if (this.finish) return;
    this.finish = finish;
    this.#emit(this.#stops.push(this.#detokenizer?.flush() ?? "").text);
    this.#emit(this.#stops.flush());
    this.#wake?.();
  }

  fail(error: unknown): void {
    this.error = error;
    this.finish ??= "abort";
    this.#wake?.();
  }

  /** Called once nothing of the task is on the GPU. */
  settle(): void {
    this.#settled = true;
    this.#settle();
    this.#wake?.();
  }

  /** Ends the generation after the current step, because nobody reads it any more. */
  cancel(): void {
    this.#cancelled = true;
  }

  /** The next piece of text; undefined when the generation has ended and settled. Throws what ended it. */
  async next(): Promise<string | undefined> {
    for (;;) {
      const piece = this.#pieces.shift();
      if (piece !== undefined) return piece;
      if (this.#settled) {
        if (this.error !== undefined) throw this.error;
        return undefined;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }

  /** True when the caller's signal has fired, or its reader has gone. */
  get aborted(): boolean {
    return this.#cancelled || (this.options.signal?.aborted ?? false);
  }

  #emit(text: string): void {
    if (text === "") return;
    this.#text += text;
    this.#pieces.push(text);
    this.#wake?.();
  }
}

/** Encodes the sources of those tasks that have one, together. Their owners dispose the memories. */
export async function encodeSources(
  { memory }: DecoderRuntime,
  tasks: readonly GenerationTask[],
  signal?: AbortSignal,
): Promise<void> {
  const waiting = tasks.filter((task) => task.encoderIds && !task.sequence.memory);
  if (!memory || waiting.length === 0) return;
  const made = await memory.encode(
    waiting.map((task) => task.encoderIds ?? []),
    { signal },
  );
  waiting.forEach((task, i) => {
    task.sequence.memory = made[i];
  });
}

/**
 * Computes keys and values of a task's prompt, but for its last token: the first decode step computes that one together with
 * its logits. Of tokens that are in the cache nothing is computed.
 */
export async function prefillPrompt(runtime: DecoderRuntime, task: GenerationTask): Promise<void> {
  const { sequence, ids, prefixLength, options } = task;
  await encodeSources(runtime, [task], options.signal);
  if (prefixLength > 0 && sequence.length === 0) {
    const kept = Math.min(prefixLength, ids.length - 1);
    await runtime.prefillPrefix(sequence, ids.slice(0, prefixLength), kept, options.signal);
  }
  await runtime.prefill(sequence, ids.slice(sequence.length, -1), options.signal);
}
