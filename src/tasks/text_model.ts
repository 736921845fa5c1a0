import { HeedError } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import { type Checkpoint, openCheckpoint, readJsonObject } from "../formats/checkpoint.ts";
import { type LoadProgress, loadWeights } from "../models/load.ts";
import { openDecoder } from "../models/registry.ts";
import type { PlanDescription } from "../program/describe.ts";
import type { DispatchTime } from "../program/profile.ts";
import type { Source } from "../core/source.ts";
import { loadTokenizer, type Tokenizer } from "../text/tokenizer.ts";
import { Batcher } from "./batcher.ts";
import { type CacheOptions, DecoderRuntime } from "./decoder_runtime.ts";
import { type GenerateOptions, readGenerationDefaults } from "./generation_options.ts";
import { type Generation, Session, type SessionParts } from "./session.ts";

/** How a checkpoint is loaded. */
export interface LoadOptions extends CacheOptions {
  /** `auto` (default) keeps f16 matrices in f16 and everything else in f32. */
  readonly dtype?: "auto" | "f32" | "f16";
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: LoadProgress) => void;
}

/** A causal language model on the GPU. Whoever loaded it disposes it. */
export class TextModel {
  /** The family that runs it, such as `llama`. */
  readonly family: string;
  /** Where it came from. */
  readonly source: string;
  /** Absent where the checkpoint has no tokenizer.json: prompts are token ids then. */
  readonly tokenizer: Tokenizer | undefined;
  readonly #parts: SessionParts;
  #disposed: Promise<void> | undefined;
  #onDispose: ((model: TextModel) => void) | undefined;

  private constructor(source: string, parts: SessionParts) {
    this.source = source;
    this.family = parts.runtime.decoder.family;
    this.tokenizer = parts.tokenizer;
    this.#parts = parts;
  }

  /** Opens the checkpoint in `source`, checks it, and streams its weights to the GPU. Frees everything on an error. */
  static async load(device: Device, source: Source, options: LoadOptions = {}): Promise<TextModel> {
    const { signal } = options;
    const checkpoint = await openCheckpoint(source, { signal });
    const decoder = openDecoder(checkpoint.config);
    const defaults = readGenerationDefaults(checkpoint.config, checkpoint.generationConfig);
    const tokenizer = await openTokenizer(checkpoint, signal);
    const weights = await loadWeights(device, decoder, checkpoint, options);
    let runtime: DecoderRuntime | undefined;
    try {
      runtime = new DecoderRuntime(device, decoder, weights, options);
      return new TextModel(source.description, { runtime, batcher: new Batcher(runtime), tokenizer, defaults });
    } catch (error) {
      await (runtime ?? weights).dispose();
      throw error;
    }
  }

  /** Tokens that prompt and generated text may have together. */
  get contextLength(): number {
    return this.#parts.runtime.contextLength;
  }

  get vocabSize(): number {
    return this.#parts.runtime.decoder.facts.vocabSize;
  }

  /**
   * Continues a prompt. Generations that run at the same time are decoded together and never mix.
   *
   * @example
   * for await (const piece of model.generate("Once upon a time", { maxTokens: 100 })) process.stdout.write(piece);
   */
  generate(prompt: string | readonly number[], options: GenerateOptions = {}): Generation {
    return this.session().generate(prompt, options, { once: true });
  }

  /** Opens a session, which keeps its tokens on the GPU between generations. */
  session(): Session {
    return new Session(this.#parts);
  }

  /** Logits of every position, `[ids.length][vocabSize]`. */
  logits(ids: readonly number[], options: { readonly signal?: AbortSignal } = {}): Promise<Float32Array[]> {
    if (ids.length === 0) throw new HeedError("USAGE", "logits: at least one token id is needed; got none.");
    return this.#parts.runtime.logits(ids, options.signal);
  }

  /** The plan of a decode step for `sequences` sequences at once. */
  describe(options: { readonly sequences?: number } = {}): Promise<PlanDescription> {
    return this.#parts.batcher.describeStep(options.sequences ?? 1);
  }

  /** Time of each dispatch of a decode step with `keys` tokens in the cache; each runs in a pass of its own. */
  profile(options: { readonly keys?: number } = {}): Promise<DispatchTime[]> {
    return this.#parts.batcher.profileStep(options.keys ?? 1);
  }

  /** Ends running generations with `DISPOSED`, then frees the GPU memory. Idempotent. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#free();
    return this.#disposed;
  }

  async #free(): Promise<void> {
    await this.#parts.batcher.dispose();
    await this.#parts.runtime.dispose();
    this.#onDispose?.(this);
  }

  /** Has `listener` called once the model is disposed; for its engine. */
  whenDisposed(listener: (model: TextModel) => void): this {
    this.#onDispose = listener;
    return this;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}

async function openTokenizer({ source }: Checkpoint, signal: AbortSignal | undefined): Promise<Tokenizer | undefined> {
  const json = await readJsonObject(source, "tokenizer.json", { signal, maxBytes: MAX_TOKENIZER_BYTES });
  if (!json) return undefined;
  return loadTokenizer(json, await readJsonObject(source, "tokenizer_config.json", { signal }));
}

const MAX_TOKENIZER_BYTES = 64 << 20;
