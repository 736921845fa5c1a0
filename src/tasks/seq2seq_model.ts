import { HeedError } from "../core/errors.ts";
import type { Source } from "../core/source.ts";
import { type Checkpoint, openCheckpoint } from "../formats/checkpoint.ts";
import type { Device } from "../gpu/device.ts";
import { resolveAttention } from "../inspect/attention_request.ts";
import type { NamedValue, RunOptions, RunResult } from "../inspect/run.ts";
import type { EncoderDecoder, EncoderDecoderFacts } from "../models/family.ts";
import { type LoadedWeights, loadWeights } from "../models/load.ts";
import { openEncoderDecoder } from "../models/registry.ts";
import { openTokenizers, type Tokenizers } from "../text/open_tokenizers.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { AdaptableModel } from "./adaptable_model.ts";
import type { AdaptedModel } from "./adapters.ts";
import { AttentionWatch } from "./attention_watch.ts";
import { adaptedDecoder, Batcher } from "./batcher.ts";
import { type CacheOptions, DecoderRuntime } from "./decoder_runtime.ts";
import { type GenerationResult, GenerationTask } from "./generation.ts";
import { checkTokens, type GenerateOptions, resolveGeneration, tokenBudget } from "./generation_options.ts";
import {
  type Languages,
  plainTask,
  summaryTask,
  type TaskFiles,
  type TextTask,
  translationTask,
  withLanguage,
} from "./seq2seq_tasks.ts";
import { checkTokenIds } from "./token_ids.ts";
import { type GenerationStep, generationStep, type StepOptions } from "./generation_steps.ts";
import { type GenerationParts, type ManyOptions, type PreparedGeneration, runMany, runOne } from "./many.ts";
import { Generation } from "./session.ts";
import type { LoadOptions } from "./text_model.ts";

/** What a generation from a source may be asked: what a causal model's may, but for a prefix. */
export interface Seq2SeqGenerateOptions extends Omit<GenerateOptions, "prefixLength"> {
  /** What the decoder reads first; default the checkpoint's start token. */
  readonly decoderIds?: readonly number[];
}

/** Options of {@link Seq2SeqModel.translate}. */
export interface TranslateOptions extends Seq2SeqGenerateOptions, Languages, ManyOptions {}

/** Options of {@link Seq2SeqModel.summarize}. */
export interface SummarizeOptions extends Seq2SeqGenerateOptions, ManyOptions {}

/** For how many tokens {@link Seq2SeqModel.values} lists values; default 1 of each. */
export interface ValuesOptions {
  readonly tokens?: number;
  readonly sourceTokens?: number;
}

/** Sequences that may be open at once, if `maxSequences` does not say: 32 generations, or 12 searches with 4 beams. */
const DEFAULT_SEQUENCES = 64;
const DEFAULT_CACHE_TOKENS = 4096;
const DEFAULT_CACHE_BYTES = 256 << 20;

/**
 * An encoder–decoder on the GPU: translates, summarizes, or generates from any source. Whoever loaded it disposes it.
 *
 * @example
 * const model = await engine.loadSeq2Seq("hf:owner/name");
 * const { text } = await model.translate("你好，世界。");
 * for await (const piece of model.generate("你好，世界。")) process.stdout.write(piece);
 */
export class Seq2SeqModel extends AdaptableModel {
  readonly kind = "encoder-decoder";
  /** The family that runs it, such as `marian`. */
  readonly family: string;
  /** Where it came from. */
  readonly source: string;
  readonly #model: EncoderDecoder;
  readonly #runtime: DecoderRuntime;
  readonly #batcher: Batcher;
  readonly #tokenizers: Tokenizers | undefined;
  readonly #files: TaskFiles;

  private constructor(source: string, parts: Parts) {
    super();
    this.source = source;
    this.family = parts.model.family;
    this.#model = parts.model;
    this.#runtime = parts.runtime;
    this.#tokenizers = parts.tokenizers;
    this.#files = parts.files;
    this.#batcher = new Batcher(parts.runtime);
  }

  /** Opens the checkpoint, checks it, and streams its weights to the GPU. Frees everything on an error. */
  static async load(device: Device, from: Source | Checkpoint, options: LoadOptions = {}): Promise<Seq2SeqModel> {
    const { signal } = options;
    const checkpoint = "tensors" in from ? from : await openCheckpoint(from, { signal });
    const model = openEncoderDecoder(checkpoint.config);
    const { config, generationConfig } = checkpoint;
    const files = { config, generationConfig };
    plainTask(files);
    const tokenizers = await openTokenizers(checkpoint, { signal });
    const weights = await loadWeights(device, model, checkpoint, options);
    const { description: source } = checkpoint.source;
    return Seq2SeqModel.over(device, model, weights, { ...options, source, tokenizers, files });
  }

  /** A model over weights that are on the GPU already, such as those that are being trained. It disposes them with itself. */
  static async over(
    device: Device,
    model: EncoderDecoder,
    weights: LoadedWeights,
    options: CacheOptions & Pick<Parts, "tokenizers" | "files"> & { readonly source: string },
  ): Promise<Seq2SeqModel> {
    const { source, tokenizers, files } = options;
    let runtime: DecoderRuntime | undefined;
    try {
      const { maxSequences = DEFAULT_SEQUENCES, cacheTokens = defaultTokens(model.facts) } = options;
      runtime = new DecoderRuntime(device, model, weights, { ...options, maxSequences, cacheTokens });
      const made = new Seq2SeqModel(source, { model, runtime, tokenizers, files });
      // What the caches could not have is known here, and not in some later call.
      await device.idle();
      return made;
    } catch (error) {
      await (runtime ?? weights).dispose();
      throw error;
    }
  }

  /** Makes ids of sources; absent where the checkpoint has none: sources are token ids then. */
  get tokenizer(): Tokenizer | undefined {
    return this.#tokenizers?.source;
  }

  /** Makes text of results. */
  get targetTokenizer(): Tokenizer | undefined {
    return this.#tokenizers?.target ?? this.#tokenizers?.source;
  }

  /** Layers, heads and sizes. */
  get facts(): EncoderDecoderFacts {
    return this.#model.facts;
  }

  /** Tokens of a result at most. */
  get contextLength(): number {
    return this.#runtime.contextLength;
  }

  get vocabSize(): number {
    return this.#model.facts.vocabSize;
  }

  /**
   * Generates from a source, token by token. Generations that run at the same time are encoded and decoded together and never
   * mix. With several beams the text comes at the end.
   *
   * @example
   * for await (const piece of model.generate("translate English to German: How are you?")) process.stdout.write(piece);
   */
  generate(source: string | readonly number[], options: Seq2SeqGenerateOptions = {}): Generation {
    return this.#generate("generate", source, plainTask(this.#files), options);
  }

  /**
   * Generates from several sources in batches: a result each, in their order.
   *
   * @example
   * const results = await model.generateAll(["你好", "再见"], { beams: 4 });
   */
  generateAll(
    sources: readonly (string | readonly number[])[],
    options: Seq2SeqGenerateOptions & ManyOptions = {},
  ): Promise<GenerationResult[]> {
    const { onProgress, ...rest } = options;
    const task = plainTask(this.#files);
    const prepared = sources.map((source) => this.#prepare("generate", source, task, rest));
    return runMany(this.#running, prepared, { onProgress });
  }

  /** Translates a text, or several in batches: a result each, in their order. Throws `UNSUPPORTED` for a language it has not. */
  translate(text: string | readonly number[], options?: TranslateOptions): Promise<GenerationResult>;
  translate(texts: readonly string[], options?: TranslateOptions): Promise<GenerationResult[]>;
  async translate(texts: Texts, options: TranslateOptions = {}): Promise<GenerationResult | GenerationResult[]> {
    const { from, to, ...rest } = options;
    return this.#many("translate", texts, translationTask(this.#files, this.#tokenizers, { from, to }), rest);
  }

  /** Like {@link translate}, of one text whose translation streams. */
  translation(text: string | readonly number[], options: Omit<TranslateOptions, "onProgress"> = {}): Generation {
    const { from, to, ...rest } = options;
    return this.#generate("translate", text, translationTask(this.#files, this.#tokenizers, { from, to }), rest);
  }

  /** Summarizes a text, or several in batches: a result each, in their order. */
  summarize(text: string | readonly number[], options?: SummarizeOptions): Promise<GenerationResult>;
  summarize(texts: readonly string[], options?: SummarizeOptions): Promise<GenerationResult[]>;
  async summarize(texts: Texts, options: SummarizeOptions = {}): Promise<GenerationResult | GenerationResult[]> {
    return this.#many("summarize", texts, summaryTask(this.#files), options);
  }

  /** Like {@link summarize}, of one text whose summary streams. */
  summary(text: string | readonly number[], options: Seq2SeqGenerateOptions = {}): Generation {
    return this.#generate("summarize", text, summaryTask(this.#files), options);
  }

  /** Logits of every position of the decoder's ids, `[decoderIds.length][vocabSize]`; those default to the start token. */
  async logits(
    ids: readonly number[],
    decoderIds: readonly number[] = [this.#model.facts.decoderStart],
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<Float32Array[]> {
    if (decoderIds.length === 0) throw new HeedError("USAGE", "logits: at least one decoder id is needed; got none.");
    return this.track("logits", async () => {
      const [memory] = (await this.#runtime.memory?.encode([ids], { signal })) ?? [];
      try {
        return await this.#runtime.logits(decoderIds, { memory, signal });
      } finally {
        memory?.dispose();
      }
    });
  }

  /**
   * One forward pass over a source and what the decoder reads (default its start token alone), as {@link TextModel.run} does it: the
   * decoder's values have the same names, cross-attention's are under `block.N.cross_attention`, the encoder's under `encoder`.
   * `attention` captures cross-attention unless its `kinds` say otherwise. Throws `USAGE`, `LIMIT`, `ABORTED`.
   *
   * @example
   * const { attention } = await model.run("你好，世界。", "Hello,", { attention: true });
   */
  async run(
    source: string | readonly number[],
    target: string | readonly number[] = [this.#start()],
    options: RunOptions = {},
  ): Promise<RunResult> {
    const [sourceIds, ids] = [this.#encode("run", source, plainTask(this.#files)), this.#decoderIds(target)];
    this.#runtime.memory?.check("run", sourceIds);
    this.#runtime.checkIds(ids);
    return this.track("run", async () => {
      const { runTapped } = await import("../inspect/run.ts");
      return runTapped(this.#runtime, ids, options, sourceIds);
    });
  }

  /** The values that {@link run} can capture and patch for so many tokens, in the order in which they are computed. */
  async values({ tokens = 1, sourceTokens = 1 }: ValuesOptions = {}): Promise<NamedValue[]> {
    const { namedValues } = await import("../inspect/run.ts");
    return namedValues(this.#runtime, tokens, sourceTokens);
  }

  /**
   * One step of a translation, laid open: the likeliest next tokens, and where each head of each layer looks in the source; with
   * `selection: "hard"` each looks at one token alone. Nothing is kept between steps, so any token may be chosen next.
   *
   * @example
   * let step = await model.step("你好");
   * while (step.candidates[0]?.piece !== "</s>") {
   *   step = await model.step("你好", [...step.target, step.candidates[0]].map((t) => t.id));
   * }
   */
  async step(
    source: string | readonly number[],
    targetIds: readonly number[] = [this.#start()],
    options: StepOptions & Languages = {},
  ): Promise<GenerationStep> {
    const { from, to, ...rest } = options;
    const sourceIds = this.#encode("step", source, translationTask(this.#files, this.#tokenizers, { from, to }));
    return generationStep(
      {
        ...{ sourceIds, targetIds, layers: this.#model.facts.layers },
        sourceTokenizer: this.tokenizer,
        targetTokenizer: this.targetTokenizer,
        run: (run) => this.run(sourceIds, targetIds, run),
      },
      rest,
    );
  }

  protected stop(): Promise<void> {
    return this.#batcher.dispose();
  }

  protected async free(): Promise<void> {
    await this.#runtime.dispose();
    await this.freeAdapters();
  }

  protected adapted(): AdaptedModel {
    return adaptedDecoder(this.#runtime, this.#batcher);
  }

  #generate(op: string, source: string | readonly number[], task: TextTask, options: Seq2SeqGenerateOptions) {
    return runOne(this.#running, this.#prepare(op, source, task, options));
  }

  get #running(): GenerationParts {
    return { runtime: this.#runtime, batcher: this.#batcher, tokenizer: this.targetTokenizer };
  }

  /** Checks everything that a generation needs; opens nothing yet. */
  #prepare(
    op: string,
    source: string | readonly number[],
    task: TextTask,
    options: Seq2SeqGenerateOptions,
  ): PreparedGeneration {
    this.checkUsable(op);
    const { decoderIds, ...rest } = options;
    const forced = task.forcedBos === undefined ? {} : { forcedBos: task.forcedBos };
    const resolved = resolveGeneration({ ...forced, ...rest }, task.defaults);
    if (rest.stop !== undefined && !this.targetTokenizer) {
      throw new HeedError(
        "USAGE",
        `${op}: stop strings need a tokenizer, which the checkpoint lacks. Leave them out, or add its files.`,
      );
    }
    const runtime = this.#runtime;
    const encoderIds = this.#encode(op, source, task);
    runtime.memory?.check(op, encoderIds);
    const ids = decoderIds ?? [task.decoderStart ?? this.#start()];
    runtime.checkIds(ids);
    checkTokens({ ...forced, ...rest }, ids.length, this.vocabSize);
    const maxTokens = tokenBudget(resolved, ids.length, runtime.contextLength);
    const request = rest.attention && resolveAttention(op, rest.attention, runtime.decoder.facts);
    const open = () => {
      this.checkUsable(op);
      const watch = request && new AttentionWatch(request, rest.attention?.onStep);
      const detokenizer = this.targetTokenizer?.detokenizer();
      const made = new GenerationTask(runtime.cache.open(), ids, maxTokens, resolved, detokenizer, watch);
      made.encoderIds = encoderIds;
      return made;
    };
    const finished = ({ sequence }: GenerationTask) => {
      sequence.memory?.dispose();
      sequence.dispose();
    };
    const generation = (start: () => GenerationTask) => new Generation(start, finished, () => runtime.device.peakBytes);
    return { beams: resolved.beams.beams, open, generation };
  }

  async #many(
    op: string,
    texts: Texts,
    task: TextTask,
    { onProgress, ...options }: Seq2SeqGenerateOptions & ManyOptions,
  ): Promise<GenerationResult | GenerationResult[]> {
    const all = isMany(texts) ? texts : [texts];
    // Every text is checked before the first is decoded.
    const prepared = all.map((text) => this.#prepare(op, text, task, options));
    const results = await runMany(this.#running, prepared, { onProgress });
    return isMany(texts) ? results : (results[0] as GenerationResult);
  }

  /** The decoder's first token: generation_config.json may know a better one than config.json. */
  #start(): number {
    const stated = this.#files.generationConfig?.["decoder_start_token_id"];
    return typeof stated === "number" ? stated : this.#model.facts.decoderStart;
  }

  /** What the decoder reads to have written a text: its start token and the text's. */
  #decoderIds(target: string | readonly number[]): readonly number[] {
    if (typeof target !== "string") return target;
    const tokenizer = this.targetTokenizer;
    if (!tokenizer) {
      throw new HeedError("BAD_FILE", "run: text needs a tokenizer, which the checkpoint lacks. Give token ids.");
    }
    const ids = [this.#start(), ...tokenizer.encode(target, { addSpecialTokens: false })];
    this.#runtime.checkIds(ids, { op: "run", text: true });
    return ids;
  }

  #encode(op: string, source: string | readonly number[], { prefix, firstIds, from }: TextTask): readonly number[] {
    if (typeof source !== "string") return source;
    const { tokenizer } = this;
    if (!tokenizer) {
      throw new HeedError("BAD_FILE", `${op}: text needs a tokenizer, which the checkpoint lacks. Give token ids.`);
    }
    const own = tokenizer.encode(prefix + source, { addSpecialTokens: true });
    const ids = [...firstIds, ...(from === undefined ? own : withLanguage(own, from, tokenizer))];
    checkTokenIds(op, ids, { vocabSize: this.#model.facts.sourceVocabSize ?? this.vocabSize, text: true });
    return ids;
  }
}

interface Parts {
  readonly model: EncoderDecoder;
  readonly runtime: DecoderRuntime;
  readonly tokenizers: Tokenizers | undefined;
  readonly files: TaskFiles;
}

/** A text, its ids, or several texts. */
type Texts = string | readonly number[] | readonly string[];

/** Short contexts, unlike a causal model's: many texts at once, in each of the two caches. */
function defaultTokens({ layers, kvHeads, headDim, contextLength }: EncoderDecoderFacts): number {
  const affordable = Math.floor(DEFAULT_CACHE_BYTES / (layers * 2 * kvHeads * headDim * 4));
  return Math.max(contextLength, Math.min(affordable, Math.max(DEFAULT_CACHE_TOKENS, 4 * contextLength)));
}

function isMany(texts: Texts): texts is readonly string[] {
  return Array.isArray(texts) && (texts.length === 0 || typeof texts[0] === "string");
}
