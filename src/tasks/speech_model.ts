import { HeedError } from "../core/errors.ts";
import { checkOptionNames } from "../core/options.ts";
import type { Source } from "../core/source.ts";
import { type Checkpoint, openCheckpoint } from "../formats/checkpoint.ts";
import type { Device } from "../gpu/device.ts";
import type { EncoderDecoderFacts } from "../models/family.ts";
import { loadWeights } from "../models/load.ts";
import { openSpeech } from "../models/registry.ts";
import type { NamedValue, RunOptions, RunResult } from "../inspect/run.ts";
import type { SoundFeatures, Speech } from "../models/speech_family.ts";
import type { CachedSequence } from "../nn/kv_cache.ts";
import { openTokenizers } from "../text/open_tokenizers.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { type AttentionRequest, resolveAttention } from "../inspect/attention_request.ts";
import { type AttentionStep, AttentionWatch } from "./attention_watch.ts";
import { LoadedModel } from "./loaded_model.ts";
import { Batcher } from "./batcher.ts";
import { runBeams } from "./beam_generation.ts";
import { DecoderRuntime } from "./decoder_runtime.ts";
import { GenerationTask } from "./generation.ts";
import { type GenerateOptions, readGenerationDefaults, resolveGeneration, tokenBudget } from "./generation_options.ts";
import { Generation } from "./session.ts";
import { Slots } from "./slots.ts";
import { cutAtSilences } from "./speech_chunks.ts";
import { SpeechEncoder } from "./speech_encoder.ts";
import { type SpeechFiles, speechPrompt, type SpeechPrompt, type SpeechPromptOptions } from "./speech_prompt.ts";
import { padded, samplesOf, type SpeechInput } from "./speech_sound.ts";
import { type Transcript, transcriptOf, type WrittenChunk } from "./speech_transcript.ts";
import type { LoadOptions } from "./text_model.ts";
import type { TimestampRule } from "./token_rules.ts";

/** How {@link SpeechModel.transcribe} works. */
export interface TranscribeOptions extends SpeechPromptOptions {
  /** Beams of the search; default 1. */
  readonly beams?: number;
  /** Tokens that a chunk gives at most; default what the model's authors found to be the most. */
  readonly maxTokens?: number;
  /** Sees how many of the chunks are written. */
  readonly onProgress?: (progress: TranscribeProgress) => void;
  /** Captures where each step looks in the sound. Not with beams. */
  readonly attention?: TranscribeAttention;
  readonly signal?: AbortSignal;
}

/** Attention that a transcription captures; keys are the encoder's rows of a chunk. */
export interface TranscribeAttention extends AttentionRequest {
  /** Takes each step as it comes, with the number of its chunk. What it throws ends the transcription. */
  readonly onStep: (step: AttentionStep, chunk: number) => void;
}

/** How far a transcription is. */
export interface TranscribeProgress {
  readonly done: number;
  readonly total: number;
}

/** Chunks whose keys the memory holds at once, if `cacheTokens` does not say. */
const CHUNKS_AT_ONCE = 4;
interface Parts {
  readonly model: Speech;
  readonly runtime: DecoderRuntime;
  readonly tokenizer: Tokenizer | undefined;
  readonly files: SpeechFiles;
}

/**
 * A model of speech on the GPU, such as Whisper or Moonshine. Whoever loaded it disposes it.
 *
 * @example
 * const model = await engine.loadSpeech("hf:owner/name");
 * const { text } = await model.transcribe({ samples, sampleRate: 16000 });
 */
export class SpeechModel extends LoadedModel {
  readonly kind = "speech";
  /** The family that runs it, such as `moonshine`. */
  readonly family: string;
  /** Where it came from. */
  readonly source: string;
  readonly tokenizer: Tokenizer | undefined;
  readonly #parts: Parts;
  readonly #encoder: SpeechEncoder;
  readonly #batcher: Batcher;
  /** Chunks that may be encoded and not yet written. */
  readonly #slots: Slots;
  #secondsPerRow: number | undefined;

  private constructor(source: string, parts: Parts, chunks: number) {
    super();
    this.source = source;
    this.family = parts.model.family;
    this.tokenizer = parts.tokenizer;
    this.#parts = parts;
    this.#encoder = new SpeechEncoder(parts.runtime, parts.model);
    this.#batcher = new Batcher(parts.runtime);
    this.#slots = new Slots(chunks);
  }

  /** Opens the checkpoint, checks it, and streams its weights to the GPU. Frees everything on an error. */
  static async load(device: Device, from: Source | Checkpoint, options: LoadOptions = {}): Promise<SpeechModel> {
    const { signal } = options;
    const checkpoint = "tensors" in from ? from : await openCheckpoint(from, { signal });
    const model = openSpeech(checkpoint.config);
    const { config, generationConfig } = checkpoint;
    const tokenizer = (await openTokenizers(checkpoint, { signal }))?.source;
    const files = { config, generationConfig, decoderStart: model.facts.decoderStart, tokenizer };
    readGenerationDefaults(config, generationConfig ?? config);
    const weights = await loadWeights(device, model, checkpoint, options);
    let runtime: DecoderRuntime | undefined;
    try {
      const most = model.facts.encoder.contextLength;
      const cacheTokens = Math.max(options.cacheTokens ?? CHUNKS_AT_ONCE * most, most);
      runtime = new DecoderRuntime(device, model, weights, { ...options, cacheTokens });
      const chunks = Math.max(1, Math.floor(cacheTokens / most));
      const made = new SpeechModel(checkpoint.source.description, { model, runtime, tokenizer, files }, chunks);
      // What the caches could not have is known here, and not in some later call.
      await device.idle();
      return made;
    } catch (error) {
      await (runtime ?? weights).dispose();
      throw error;
    }
  }

  /** Layers, heads and sizes. */
  get facts(): EncoderDecoderFacts {
    return this.#parts.model.facts;
  }

  /** Samples a second that the model reads; other rates are brought to it. */
  get sampleRate(): number {
    return this.#parts.model.sound.sampleRate;
  }

  /** Seconds of sound that one of the encoder's rows stands for, and so one key of captured attention. */
  get secondsPerRow(): number {
    const { sound } = this.#parts.model;
    const samples = Math.floor(sound.chunkSeconds * sound.sampleRate);
    this.#secondsPerRow ??=
      sound.chunkSeconds / sound.encodedRows(sound.features(new Float32Array(samples)).shape[0] ?? 0);
    return this.#secondsPerRow;
  }

  /** Writes down what is said. Long sound is cut into chunks at silences, which are decoded together. */
  async transcribe(input: SpeechInput, options: TranscribeOptions = {}): Promise<Transcript> {
    checkOptionNames("transcribe", options, [
      ...["language", "task", "timestamps", "beams", "maxTokens", "onProgress", "attention", "signal"],
    ]);
    const { attention, beams = 1 } = options;
    if (attention && beams > 1) {
      throw new HeedError("USAGE", `transcribe: attention is of one hypothesis; got ${beams} beams. Leave one out.`);
    }
    if (attention && options.timestamps) {
      throw new HeedError("USAGE", "transcribe: attention is not captured beside timestamps. Leave one out.");
    }
    return this.track("transcribe", async () => {
      const samples = samplesOf(input, this.sampleRate);
      const { sampleRate, chunkSeconds } = this.#parts.model.sound;
      const chunks = cutAtSilences(samples, sampleRate, chunkSeconds);
      const prompt = speechPrompt(this.#parts.files, options);
      const written: WrittenChunk[] = [];
      let done = 0;
      await Promise.all(
        chunks.map((chunk, i) =>
          this.#slots.with(async () => {
            const onStep = attention && ((step: AttentionStep) => attention.onStep(step, i));
            written[i] = await this.#write(samples.subarray(chunk.from, chunk.to), prompt, { ...options, onStep });
            options.onProgress?.({ done: ++done, total: chunks.length });
          }),
        ),
      );
      return transcriptOf({ samples: samples.length, sampleRate, chunks, written, prompt, tokenizer: this.tokenizer });
    });
  }

  /** The encoder's rows for sound that is one chunk, `[rows · C]`, and C. */
  async encode(
    input: SpeechInput,
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<{ readonly data: Float32Array; readonly width: number }> {
    return this.track("encode", async () => {
      const features = this.#parts.model.sound.features(this.#padded(samplesOf(input, this.sampleRate)));
      const data = await this.#encoder.rows(features, signal);
      const rows = this.#parts.model.sound.encodedRows(features.shape[0] ?? 0);
      return { data, width: data.length / rows };
    });
  }

  /** Logits of every position of the decoder's ids for sound that is one chunk. */
  async logits(
    input: SpeechInput,
    decoderIds: readonly number[],
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<Float32Array[]> {
    return this.track("logits", () =>
      this.#slots.with(async () => {
        const features = this.#parts.model.sound.features(this.#padded(samplesOf(input, this.sampleRate)));
        const memory = await this.#encoder.encode(features, signal);
        try {
          return await this.#parts.runtime.logits(decoderIds, { memory, signal });
        } finally {
          memory.dispose();
        }
      }),
    );
  }

  /**
   * One forward pass over sound that is one chunk and what the decoder reads (ids, the start token first), as {@link TextModel.run} does it.
   * `attention` captures cross-attention unless its `kinds` say otherwise: its keys are the encoder's rows, {@link secondsPerRow} each.
   * Throws `USAGE`, `LIMIT`, `ABORTED`.
   *
   * @example
   * const { ids } = await model.transcribe(sound);
   * const { attention } = await model.run(sound, ids[0], { attention: true });
   */
  async run(input: SpeechInput, decoderIds: readonly number[], options: RunOptions = {}): Promise<RunResult> {
    const source = this.#wholeChunk("run", input);
    const { runtime } = this.#parts;
    runtime.checkIds(decoderIds, { op: "run" });
    return this.track("run", async () => {
      const { runTapped } = await import("../inspect/run.ts");
      return runTapped(runtime, decoderIds, options, source);
    });
  }

  /** Rows that the encoder makes of sound that is one chunk. Throws `USAGE` or `LIMIT`. */
  soundRows(input: SpeechInput): number {
    return this.#wholeChunk("run", input).rows;
  }

  /** The values that {@link run} can capture and patch for that sound and so many of the decoder's tokens, in their order. */
  async values(input: SpeechInput, { tokens = 1 }: { readonly tokens?: number } = {}): Promise<NamedValue[]> {
    const { namedValues } = await import("../inspect/run.ts");
    return namedValues(this.#parts.runtime, tokens, this.#wholeChunk("values", input));
  }

  protected stop(): Promise<void> {
    return this.#batcher.dispose();
  }

  protected async free(): Promise<void> {
    await this.#encoder.dispose();
    await this.#parts.runtime.dispose();
  }

  /** Encodes and decodes one chunk. */
  async #write(
    samples: Float32Array,
    prompt: SpeechPrompt,
    options: TranscribeOptions & { readonly onStep?: ((step: AttentionStep) => void) | undefined },
  ): Promise<WrittenChunk> {
    const { model, runtime } = this.#parts;
    const { signal, attention, onStep } = options;
    const request = attention && resolveAttention("transcribe", attention, runtime.decoder.facts);
    const memory = await this.#encoder.encode(model.sound.features(this.#padded(samples)), signal);
    try {
      const ids = [...prompt.ids];
      if (prompt.language)
        ids[prompt.language.at] = await this.#hear(memory, ids[0] as number, prompt.language.ids, signal);
      const generation = this.#generate(memory, ids, {
        timestamps: this.#timeRule(prompt),
        beams: options.beams,
        maxTokens: options.maxTokens ?? model.sound.mostTokens(samples.length),
        signal,
        watch: request && new AttentionWatch(request, onStep),
      });
      const result = await generation.result;
      if (result.finish === "abort") throw new HeedError("ABORTED", "transcribe: aborted.");
      this.checkUsable("transcribe");
      return {
        ids: [...ids, ...result.ids.generated],
        text: result.text.trim(),
        prompt: ids.length,
        finish: result.finish,
      };
    } finally {
      memory.dispose();
      runtime.device.check();
    }
  }

  #generate(
    memory: CachedSequence,
    ids: readonly number[],
    {
      watch,
      timestamps,
      ...options
    }: GenerateOptions & {
      readonly watch: AttentionWatch | undefined;
      readonly timestamps: TimestampRule | undefined;
    },
  ): Generation {
    const { runtime, tokenizer, files } = this.#parts;
    const defaults = readGenerationDefaults(files.config, files.generationConfig ?? files.config);
    // What older files force is in the prompt already.
    const own = { ...defaults, maxTokens: undefined, maxLength: undefined };
    const isGreedy = options.beams === undefined || options.beams === 1;
    const asked = resolveGeneration({ greedy: isGreedy, ...options }, own);
    // The rule of times weighs tokens against each other, as a search's scores are: one of a single beam is greedy.
    const beams = timestamps && isGreedy ? { ...asked.beams, beams: 1, earlyStopping: true } : asked.beams;
    const resolved = { ...asked, beams, rules: { ...asked.rules, timestamps } };
    runtime.checkIds(ids);
    const maxTokens = tokenBudget(resolved, ids.length, runtime.contextLength);
    const start = () => {
      const sequence = runtime.cache.open();
      sequence.memory = memory;
      const task = new GenerationTask(sequence, ids, maxTokens, resolved, tokenizer?.detokenizer(), watch);
      if (beams.beams > 1 || timestamps) void runBeams({ runtime, tokenizer }, [task]);
      else this.#batcher.add(task);
      return task;
    };
    return new Generation(
      start,
      ({ sequence }) => sequence.dispose(),
      () => runtime.device.peakBytes,
    );
  }

  /** The rule by which the model writes times, if it is to write them. */
  #timeRule({ timestamps }: SpeechPrompt): TimestampRule | undefined {
    if (!timestamps) return undefined;
    const most = this.#parts.files.generationConfig?.["max_initial_timestamp_index"];
    return {
      firstId: timestamps.firstId,
      lastId: this.#parts.model.facts.vocabSize - 1,
      mostInitial: typeof most === "number" ? most : undefined,
    };
  }

  /** The likeliest language: that whose token would follow the start token. */
  async #hear(memory: CachedSequence, start: number, languages: readonly number[], signal: AbortSignal | undefined) {
    const [logits] = await this.#parts.runtime.logits([start], { memory, signal });
    const ranked = [...languages].sort((a, b) => (logits?.[b] ?? 0) - (logits?.[a] ?? 0));
    return ranked[0] as number;
  }

  #padded(samples: Float32Array): Float32Array {
    return padded(samples, this.#parts.model.sound.leastSamples);
  }

  /** Features of sound that has to be one chunk, with the rows that the encoder makes of them. */
  #wholeChunk(op: string, input: SpeechInput): { readonly features: SoundFeatures; readonly rows: number } {
    const { sound } = this.#parts.model;
    const samples = samplesOf(input, this.sampleRate);
    if (samples.length > sound.chunkSeconds * sound.sampleRate) {
      const seconds = (samples.length / sound.sampleRate).toFixed(1);
      throw new HeedError(
        "LIMIT",
        `${op}: the model reads ${sound.chunkSeconds} seconds of sound at once; got ${seconds}. Give a part of it.`,
      );
    }
    const features = sound.features(this.#padded(samples));
    return { features, rows: sound.encodedRows(features.shape[0] ?? 0) };
  }
}
