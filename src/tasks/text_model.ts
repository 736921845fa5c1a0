import { HeedError } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import { type Checkpoint, openCheckpoint } from "../formats/checkpoint.ts";
import { type LoadedWeights, type LoadProgress, loadWeights } from "../models/load.ts";
import type { LoadDType } from "../models/weight_stream.ts";
import type { Decoder, DecoderFacts } from "../models/family.ts";
import { openDecoder } from "../models/registry.ts";
import { prefixOf } from "../nn/prefix.ts";
import type { PlanDescription } from "../program/describe.ts";
import type { DispatchTime } from "../program/profile.ts";
import type { Source } from "../core/source.ts";
import { openTokenizers } from "../text/open_tokenizers.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import type { NamedValue, RunOptions, RunResult } from "../inspect/run.ts";
import type { ChatMessage } from "../text/chat_template.ts";
import { AdaptableModel } from "./adaptable_model.ts";
import type { AdaptedModel } from "./adapters.ts";
import { adaptedDecoder, Batcher } from "./batcher.ts";
import { type ChatOptions, ChatPrompts, Conversation } from "./chat.ts";
import { type CacheOptions, DecoderRuntime } from "./decoder_runtime.ts";
import { type GenerateOptions, readGenerationDefaults } from "./generation_options.ts";
import type { GenerationResult } from "./generation.ts";
import { type ManyOptions, runMany } from "./many.ts";
import { type Generation, Session, type SessionParts } from "./session.ts";

/** How a checkpoint is loaded. */
export interface LoadOptions extends CacheOptions {
  /** `auto` (default) keeps f16 matrices in f16, those of a GGUF file as they are, everything else in f32; `q8_0`, `q4_0` quantise. */
  readonly dtype?: LoadDType;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: LoadProgress) => void;
}

/** A causal language model on the GPU. Whoever loaded it disposes it. */
export class TextModel extends AdaptableModel {
  readonly kind = "decoder";
  /** The family that runs it, such as `llama`. */
  readonly family: string;
  /** Where it came from. */
  readonly source: string;
  /** Absent where the checkpoint has no tokenizer.json: prompts are token ids then. */
  readonly tokenizer: Tokenizer | undefined;
  readonly #parts: SessionParts;
  readonly #prompts: ChatPrompts;

  private constructor(source: string, parts: SessionParts, prompts: ChatPrompts) {
    super();
    this.#prompts = prompts;
    this.source = source;
    this.family = parts.runtime.decoder.family;
    this.tokenizer = parts.tokenizer;
    this.#parts = parts;
  }

  /** Opens the checkpoint in `source`, checks it, and streams its weights to the GPU. Frees everything on an error. */
  static async load(device: Device, from: Source | Checkpoint, options: LoadOptions = {}): Promise<TextModel> {
    const { signal } = options;
    const checkpoint = "tensors" in from ? from : await openCheckpoint(from, { signal });
    const decoder = openDecoder(checkpoint.config);
    const defaults = readGenerationDefaults(checkpoint.config, checkpoint.generationConfig ?? checkpoint.config);
    const tokenizer = (await openTokenizers(checkpoint, { signal }))?.source;
    const weights = await loadWeights(device, decoder, checkpoint, options);
    return TextModel.over(device, decoder, weights, {
      ...options,
      source: checkpoint.source.description,
      tokenizer,
      defaults,
      files: checkpoint.source,
    });
  }

  /** A model over weights that are on the GPU already, such as those that are being trained. It disposes them with itself. */
  static async over(
    device: Device,
    decoder: Decoder,
    weights: LoadedWeights,
    options: CacheOptions &
      Pick<SessionParts, "tokenizer" | "defaults"> & { readonly source: string; readonly files?: Source },
  ): Promise<TextModel> {
    const { source, tokenizer, defaults, files } = options;
    let runtime: DecoderRuntime | undefined;
    try {
      runtime = new DecoderRuntime(device, decoder, weights, options);
      const batcher = new Batcher(runtime);
      // What the cache could not have is known here, and not in some later call.
      await device.idle();
      const prompts = new ChatPrompts(files, tokenizer);
      return new TextModel(source, { runtime, batcher, tokenizer, defaults }, prompts);
    } catch (error) {
      await (runtime ?? weights).dispose();
      throw error;
    }
  }

  /** Tokens that prompt and generated text may have together. */
  get contextLength(): number {
    return this.#parts.runtime.contextLength;
  }

  /** Layers, heads and sizes. */
  get facts(): DecoderFacts {
    return this.#parts.runtime.decoder.facts;
  }

  /** GPU memory of the weights alone. */
  get weightBytes(): number {
    return this.#parts.runtime.weights.bytes;
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

  /**
   * Continues several prompts in batches: a result each, in their order, with beams as one search over all of them.
   *
   * @example
   * const [first, second] = await model.generateAll(["Once upon a time", "Far away"], { beams: 4, maxTokens: 50 });
   */
  async generateAll(
    prompts: readonly (string | readonly number[])[],
    options: GenerateOptions & ManyOptions = {},
  ): Promise<GenerationResult[]> {
    this.checkUsable("generate");
    const { onProgress, ...rest } = options;
    const prepared = prompts.map((prompt) => this.session().prepare(prompt, rest, { once: true }));
    return runMany(this.#parts, prepared, { onProgress });
  }

  /**
   * Answers the last of some messages, by the checkpoint's own chat template. Throws `UNSUPPORTED` where it has none, `BAD_FILE`
   * for a template that fails or does not end, `USAGE` for messages that it refuses.
   *
   * @example
   * for await (const piece of await model.chat([{ role: "user", content: "Who are you?" }])) process.stdout.write(piece);
   */
  async chat(messages: readonly ChatMessage[], options: ChatOptions = {}): Promise<Generation> {
    const { tools, variables, ...generate } = options;
    return this.generate(await this.#prompts.ids(messages, { tools, variables }), generate);
  }

  /** True if the checkpoint has a chat template: {@link chat} and {@link conversation} work then. */
  canChat(): Promise<boolean> {
    return this.#prompts.available();
  }

  /** Opens a conversation of several turns, after `messages` such as one of the role `system`. */
  conversation(messages: readonly ChatMessage[] = []): Conversation {
    return new Conversation(this.session(), this.#prompts, messages);
  }

  /** Opens a session, which keeps its tokens on the GPU between generations. */
  session(): Session {
    return new Session(this.#parts);
  }

  /** Logits of every position, `[ids.length][vocabSize]`; `prefixLength` as in {@link GenerateOptions}. */
  logits(
    ids: readonly number[],
    options: { readonly prefixLength?: number | "prompt"; readonly signal?: AbortSignal } = {},
  ): Promise<Float32Array[]> {
    if (ids.length === 0) throw new HeedError("USAGE", "logits: at least one token id is needed; got none.");
    const prefix = prefixOf("logits", options.prefixLength, ids.length);
    return this.#parts.runtime.logits(ids, { prefix, signal: options.signal });
  }

  /**
   * One forward pass over a prompt whose values can be read (`capture`), changed (`patch`), and whose heads can be switched off
   * (`ablate`); `attention` captures weights and summaries. It uses no cache, and leaves nothing on the GPU. Throws `USAGE`
   * for a name that {@link values} does not list, `LIMIT`, `ABORTED`.
   *
   * @example
   * const { values, logits } = await model.run("Once upon a time", {
   *   capture: ["block.0.attention.probs"],
   *   ablate: [{ layer: 3, head: 1 }],
   * });
   */
  async run(prompt: string | readonly number[], options: RunOptions = {}): Promise<RunResult> {
    return this.track("run", async () => {
      const ids = this.#encode(prompt);
      const { runTapped } = await import("../inspect/run.ts");
      return runTapped(this.#parts.runtime, ids, options);
    });
  }

  /** The values of a forward pass over so many tokens that {@link run} can capture and patch, in their order. */
  async values(options: { readonly tokens?: number } = {}): Promise<NamedValue[]> {
    const { namedValues } = await import("../inspect/run.ts");
    return namedValues(this.#parts.runtime, options.tokens ?? 1);
  }

  /** The plan of a decode step for `sequences` sequences at once. */
  describe(options: { readonly sequences?: number } = {}): Promise<PlanDescription> {
    return this.#parts.batcher.describeStep(options.sequences ?? 1);
  }

  /** Time of each dispatch of a decode step with `keys` tokens in the cache; each runs in a pass of its own. */
  profile(options: { readonly keys?: number } = {}): Promise<DispatchTime[]> {
    return this.#parts.batcher.profileStep(options.keys ?? 1);
  }

  protected stop(): Promise<void> {
    return this.#parts.batcher.dispose();
  }

  protected async free(): Promise<void> {
    await this.#parts.runtime.dispose();
    await this.freeAdapters();
  }

  protected adapted(): AdaptedModel {
    const { runtime, batcher } = this.#parts;
    return adaptedDecoder(runtime, batcher);
  }

  #encode(prompt: string | readonly number[]): readonly number[] {
    const { runtime, tokenizer } = this.#parts;
    if (typeof prompt === "string" && !tokenizer) {
      throw new HeedError("BAD_FILE", "run: text needs tokenizer.json, which the checkpoint lacks. Give token ids.");
    }
    const ids = typeof prompt === "string" ? (tokenizer?.encode(prompt, { addSpecialTokens: true }) ?? []) : prompt;
    runtime.checkIds(ids, { op: "run", text: typeof prompt === "string" });
    return ids;
  }
}
