import { HeedError } from "../core/errors.ts";
import { checkOptionNames } from "../core/options.ts";
import type { Source } from "../core/source.ts";
import { type Checkpoint, openCheckpoint } from "../formats/checkpoint.ts";
import type { Device } from "../gpu/device.ts";
import type { EncoderFacts } from "../models/encoder_family.ts";
import type { NamedValue, RunOptions, RunResult } from "../inspect/run.ts";
import { type LoadWeightsOptions, loadWeights } from "../models/load.ts";
import type { HeadKind } from "../models/encoder_heads.ts";
import { openEncoder } from "../models/registry.ts";
import { openSentenceEmbedding, type SentencePooling } from "../models/sentence_embedding.ts";
import { openTokenizers } from "../text/open_tokenizers.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { AdaptableModel } from "./adaptable_model.ts";
import type { AdaptedModel } from "./adapters.ts";
import { type Answer, type AnswerOptions, answerAll, type Question } from "./answer.ts";
import { type Classification, type ClassifyOptions, classifyAll } from "./classify.ts";
import { cosineSimilarity, type Embedding, type EmbedOptions, embedAll } from "./embed.ts";
import { EncoderRuntime, type EncoderSequence, type LoadedEncoder, withSentence } from "./encoder_runtime.ts";
import { type EncoderContext, type EncoderInput, encodeInput } from "./encoder_text.ts";
import { type Filled, type FillOptions, fillAll } from "./fill.ts";
import { type Entity, type LabelOptions, labelAll } from "./label.ts";

/** How an encoder is loaded. */
export interface LoadEncoderOptions extends LoadWeightsOptions {
  /** How {@link EncoderModel.embed} makes one vector of a text, whatever the checkpoint's own config says. */
  readonly pooling?: SentencePooling;
}

/** What the head of an encoder gives for ids: for each position, for each label, or for starts and ends of answers. */
export type EncoderLogits =
  | { readonly logits: readonly Float32Array[] | Float32Array }
  | { readonly start_logits: Float32Array; readonly end_logits: Float32Array };

/**
 * An encoder such as BERT on the GPU: what works with it follows from its head. Calls may run at once. Whoever loaded it
 * disposes it.
 *
 * @example
 * const model = await engine.loadEncoder("hf:owner/name");
 * const { text, score } = await model.answer({ question: "Who wrote it?", context });
 */
export class EncoderModel extends AdaptableModel {
  readonly kind = "encoder";
  /** The family that runs it, such as `bert`. */
  readonly family: string;
  /** Where it came from. */
  readonly source: string;
  /** Absent where the checkpoint has none: inputs are token ids then. */
  readonly tokenizer: Tokenizer | undefined;
  readonly #context: EncoderContext;

  private constructor(source: string, context: EncoderContext) {
    super();
    this.source = source;
    this.family = context.runtime.encoder.family;
    this.tokenizer = context.tokenizer;
    this.#context = context;
  }

  /** Opens the checkpoint, checks it, and streams its weights to the GPU. Frees everything on an error. */
  static async load(
    device: Device,
    from: Source | Checkpoint,
    { pooling, ...options }: LoadEncoderOptions = {},
  ): Promise<EncoderModel> {
    const { signal } = options;
    const checkpoint = "tensors" in from ? from : await openCheckpoint(from, { signal });
    const encoder = openEncoder(checkpoint.config);
    const sentence = await openSentenceEmbedding(checkpoint, encoder, { signal, pooling });
    const tokenizer = (await openTokenizers(checkpoint, { signal }))?.source;
    const tensors = new Map([...checkpoint.tensors, ...sentence.tensors]);
    const weights = await loadWeights(device, withSentence(encoder, sentence), { ...checkpoint, tensors }, options);
    return EncoderModel.over(
      device,
      { encoder, sentence, weights },
      { source: checkpoint.source.description, tokenizer },
    );
  }

  /** A model over weights that are on the GPU already, such as those that are being trained. It disposes them with itself. */
  static over(
    device: Device,
    loaded: LoadedEncoder,
    { source, tokenizer }: { readonly source: string; readonly tokenizer: Tokenizer | undefined },
  ): EncoderModel {
    try {
      return new EncoderModel(source, { runtime: new EncoderRuntime(device, loaded), tokenizer });
    } catch (error) {
      loaded.weights.dispose();
      throw error;
    }
  }

  /** Tokens of a text at most, those around it included. */
  get contextLength(): number {
    return this.facts.contextLength;
  }

  get vocabSize(): number {
    return this.facts.vocabSize;
  }

  /** Layers, heads and sizes. */
  get facts(): EncoderFacts {
    return this.#context.runtime.encoder.facts;
  }

  /** What the checkpoint's head tells, which says what works beside {@link embed}; undefined for a plain encoder. */
  get head(): HeadKind | undefined {
    return this.#context.runtime.encoder.head?.kind;
  }

  /** Labels of classes or of tokens, in the order of the logits. */
  get labels(): readonly string[] {
    return this.#context.runtime.encoder.head?.labels ?? [];
  }

  /** Numbers of a vector that {@link embed} gives. */
  get embeddingWidth(): number {
    return this.#context.runtime.sentence.width;
  }

  /** Finds the answer to a question in a context, or that it has none. An array gives an array, computed in batches. */
  answer(question: Question, options?: AnswerOptions): Promise<Answer>;
  answer(questions: readonly Question[], options?: AnswerOptions): Promise<Answer[]>;
  async answer(questions: Question | readonly Question[], options: AnswerOptions = {}): Promise<Answer | Answer[]> {
    checkOptionNames("answer", options, [...CALL, "top", "maxAnswerTokens", "noAnswer", "maxTokens", "stride"]);
    return this.#each("answer", questions, (all) => answerAll(this.#context, all, options));
  }

  /** Says which label a text has, with the scores of all labels. An array gives an array, computed in batches. */
  classify(input: EncoderInput, options?: ClassifyOptions): Promise<Classification>;
  classify(inputs: readonly EncoderInput[], options?: ClassifyOptions): Promise<Classification[]>;
  async classify(
    inputs: EncoderInput | readonly EncoderInput[],
    options: ClassifyOptions = {},
  ): Promise<Classification | Classification[]> {
    checkOptionNames("classify", options, [...CALL, "truncate"]);
    return this.#each("classify", inputs, (all) => classifyAll(this.#context, all, options));
  }

  /** Finds the entities of a text, with their places in it. An array gives an array, computed in batches. */
  label(text: string, options?: LabelOptions): Promise<Entity[]>;
  label(texts: readonly string[], options?: LabelOptions): Promise<Entity[][]>;
  async label(texts: string | readonly string[], options: LabelOptions = {}): Promise<Entity[] | Entity[][]> {
    checkOptionNames("label", options, [...CALL, "aggregation", "ignore", "stride"]);
    return this.#each("label", texts, (all) => labelAll(this.#context, all, options));
  }

  /** Words for each mask of a text (`[MASK]` or `<mask>`, as the tokenizer has it). An array gives an array, computed in batches. */
  fill(text: string, options?: FillOptions): Promise<Filled>;
  fill(texts: readonly string[], options?: FillOptions): Promise<Filled[]>;
  async fill(texts: string | readonly string[], options: FillOptions = {}): Promise<Filled | Filled[]> {
    checkOptionNames("fill", options, [...CALL, "top"]);
    return this.#each("fill", texts, (all) => fillAll(this.#context, all, options));
  }

  /** The vector of a text, as the checkpoint's pooling makes it. An array gives an array, computed in batches. */
  embed(input: EncoderInput, options?: EmbedOptions): Promise<Embedding>;
  embed(inputs: readonly EncoderInput[], options?: EmbedOptions): Promise<Embedding[]>;
  async embed(
    inputs: EncoderInput | readonly EncoderInput[],
    options: EmbedOptions = {},
  ): Promise<Embedding | Embedding[]> {
    checkOptionNames("embed", options, [...CALL, "truncate", "prompt"]);
    return this.#each("embed", inputs, (all) => embedAll(this.#context, all, options));
  }

  /** How like a text is to another, or to each of several: the cosine of their vectors, from −1 to 1. */
  similarity(a: EncoderInput, b: EncoderInput, options?: EmbedOptions): Promise<number>;
  similarity(a: EncoderInput, b: readonly EncoderInput[], options?: EmbedOptions): Promise<number[]>;
  async similarity(
    a: EncoderInput,
    b: EncoderInput | readonly EncoderInput[],
    options: EmbedOptions = {},
  ): Promise<number | number[]> {
    const others = isMany(b) ? b : [b];
    const [first, ...rest] = await this.embed([a, ...others], options);
    const scores = rest.map(({ vector }) => cosineSimilarity(first?.vector ?? [], vector));
    return isMany(b) ? scores : (scores[0] as number);
  }

  /** What the head gives for ids that have everything around them: see {@link EncoderLogits}. Throws `UNSUPPORTED` without a head. */
  async logits(
    ids: readonly number[],
    { typeIds, signal }: { readonly typeIds?: readonly number[] | undefined; readonly signal?: AbortSignal } = {},
  ): Promise<EncoderLogits> {
    const { runtime } = this.#context;
    const { head, facts, family } = runtime.encoder;
    if (!head) {
      throw new HeedError(
        "UNSUPPORTED",
        `logits: this ${family} checkpoint has no head, so there are no logits; embed works. Take a checkpoint with a head.`,
      );
    }
    const sequence: EncoderSequence = { ids, typeIds };
    const [rows = new Float32Array()] = await this.track("logits", () =>
      runtime.run("logits", [sequence], head.kind === "words" ? "hidden" : "logits", { signal }),
    );
    if (head.kind === "classes") return { logits: rows };
    if (head.kind === "span") {
      const column = (side: number) => rows.filter((_, i) => i % 2 === side);
      return { start_logits: column(0), end_logits: column(1) };
    }
    if (head.kind === "labels") return { logits: rowsOf(rows, head.labels.length) };
    return { logits: await this.track("logits", () => runtime.words("logits", rowsOf(rows, facts.width), { signal })) };
  }

  /**
   * One forward pass whose values can be read (`capture`), changed (`patch`), and whose heads can be switched off (`ablate`);
   * `attention` captures weights and summaries, both ways. The input is a text, or ids with everything around them. `logits` are
   * those of the head, one row for classes; there are none without a head. Throws `USAGE` for a name that {@link values} does not
   * list, `LIMIT`, `ABORTED`.
   */
  async run(input: EncoderInput | readonly number[], options: RunOptions = {}): Promise<RunResult> {
    const { runtime } = this.#context;
    const given = isIds(input) ? { ids: input } : input;
    const sequence = encodeInput("run", this.#context, given, {});
    if (options.logits === "last" || options.prefixLength !== undefined) {
      throw new HeedError("USAGE", "run: an encoder has no last logits and no prefix. Leave them out.");
    }
    const logits = options.logits ?? runtime.encoder.head !== undefined;
    if (logits && !runtime.encoder.head) {
      throw new HeedError("UNSUPPORTED", "run: this checkpoint has no head for logits. Leave out logits.");
    }
    runtime.check("run", sequence);
    return this.track("run", async () => {
      const { runTapped } = await import("../inspect/run.ts");
      return runTapped(runtime.inspected(sequence), sequence.ids, { ...options, logits });
    });
  }

  /** The values of a forward pass over so many tokens that {@link run} can capture and patch, in their order. */
  async values(options: { readonly tokens?: number } = {}): Promise<NamedValue[]> {
    const { namedValues } = await import("../inspect/run.ts");
    return namedValues(this.#context.runtime.inspected({ ids: [0] }), options.tokens ?? 1);
  }

  protected stop(): Promise<void> {
    return this.#context.runtime.dispose();
  }

  /** Its runtime frees the rest as it stops. */
  protected free(): Promise<void> {
    return this.freeAdapters();
  }

  protected adapted(): AdaptedModel {
    return this.#context.runtime.adapted();
  }

  /** One result for one input, an array for an array. */
  async #each<I, O>(op: string, inputs: I | readonly I[], work: (all: readonly I[]) => Promise<O[]>): Promise<O | O[]> {
    const many = isMany(inputs);
    const results = await this.track(op, () => work(many ? inputs : [inputs]));
    return many ? results : (results[0] as O);
  }
}

const CALL = ["signal", "onProgress"];

function isIds(input: EncoderInput | readonly number[]): input is readonly number[] {
  return Array.isArray(input);
}

function isMany<I>(inputs: I | readonly I[]): inputs is readonly I[] {
  return Array.isArray(inputs);
}

/** `[N · width]` as N rows. */
function rowsOf(values: Float32Array, width: number): Float32Array[] {
  return Array.from({ length: values.length / width }, (_, i) => values.slice(i * width, (i + 1) * width));
}
