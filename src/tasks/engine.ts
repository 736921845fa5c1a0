import { HeedError } from "../core/errors.ts";
import { checkOptionNames } from "../core/options.ts";
import type { Speed } from "../gpu/probe.ts";
import { type AdapterFacts, Device, type GpuFacts, type RequestDeviceOptions } from "../gpu/device.ts";
import type { OpenSourceOptions, SourceSpec } from "../sources/open_source.ts";
import type { Source } from "../core/source.ts";
import type { TuneReport, TuneStore } from "../gpu/tune.ts";
import type { LoadAdapterOptions } from "./adapters.ts";
import { DirectOps } from "./direct_ops.ts";
import type { EncoderModel, LoadEncoderOptions } from "./encoder_model.ts";
import type { LoadedModel } from "./loaded_model.ts";
import type { SelfTestOptions, SelfTestReport } from "./self_test.ts";
import type { Seq2SeqModel } from "./seq2seq_model.ts";
import type { SpeechModel } from "./speech_model.ts";
import type { LoadOptions, TextModel } from "./text_model.ts";

/** Turns what a user names (a Hub id, URL, folder or files) into a source. */
export type OpenSource = (spec: SourceSpec, options?: OpenSourceOptions) => Promise<Source> | Source;

/** How {@link Engine.load} finds and loads a checkpoint. */
export interface EngineLoadOptions extends LoadOptions {
  /** Hub access: revision, token, endpoint, cache, download progress. */
  readonly source?: OpenSourceOptions;
}

/** How an engine is made. */
export interface EngineOptions extends RequestDeviceOptions {
  /**
   * Choose kernels by measuring a few on this device, in under a second, and keep what was found (a file in Node, IndexedDB in a
   * page). Default: on GPUs, not on CPU adapters, whose compilation alone takes longer, and not under `deterministic`.
   */
  readonly autotune?: boolean;
}

/** How {@link Engine.loadEncoder} finds and loads a checkpoint. */
export interface EngineLoadEncoderOptions extends LoadEncoderOptions {
  /** Hub access: revision, token, endpoint, cache, download progress. */
  readonly source?: OpenSourceOptions;
}

/** What {@link Engine.loadAny} gives. */
export type AnyModel = TextModel | EncoderModel | Seq2SeqModel | SpeechModel;

const LOAD_OPTIONS = ["dtype", "signal", "onProgress", "cacheTokens", "maxSequences", "cacheDtype", "source"];

/**
 * Heed on one device. Make one with `createEngine()`; dispose it when done.
 *
 * @example
 * await using engine = await createEngine();
 * const model = await engine.load("hf:owner/name");
 * for await (const piece of model.generate("Once upon a time")) process.stdout.write(piece);
 */
export class Engine extends DirectOps {
  readonly #openSource: OpenSource;
  readonly #models = new Set<LoadedModel>();
  /** Which kernels were chosen by measurement; undefined where none were. */
  readonly tuning: TuneReport | undefined;
  #disposed = false;

  constructor(device: Device, openSource: OpenSource, tuning?: TuneReport) {
    super(device);
    this.#openSource = openSource;
    this.tuning = tuning;
  }

  /** Tier, features and limits that kernels are chosen by. */
  get facts(): GpuFacts {
    return this.device.facts;
  }

  get adapter(): AdapterFacts {
    return this.device.adapter;
  }

  /**
   * Loads a checkpoint as published: `hf:owner/name[@revision]`, a URL, a folder (in Node) or chosen files (in a page).
   * Throws `UNSUPPORTED`, `BAD_FILE`, `NETWORK`, `OUT_OF_MEMORY` or `ABORTED`, with nothing left allocated.
   */
  async load(spec: SourceSpec, options: EngineLoadOptions = {}): Promise<TextModel> {
    checkOptionNames("load", options, LOAD_OPTIONS);
    const { source, ...loadOptions } = options;
    const opened = await this.open("load", spec, source);
    // Each kind of model is loaded when it is asked for: an engine for attention alone has no use for any.
    const { TextModel } = await import("./text_model.ts");
    return this.#keep(await TextModel.load(this.device, opened, loadOptions));
  }

  /**
   * Loads an encoder such as BERT, for `answer`, `classify`, `label`, `fill` and `embed`. Throws as {@link Engine.load}.
   *
   * @example
   * const model = await engine.loadEncoder("hf:owner/name");
   * const [{ label, score }] = await model.classify(["What a film!"]);
   */
  async loadEncoder(spec: SourceSpec, options: EngineLoadEncoderOptions = {}): Promise<EncoderModel> {
    checkOptionNames("loadEncoder", options, ["dtype", "signal", "onProgress", "pooling", "source"]);
    const { source, ...loadOptions } = options;
    const opened = await this.open("loadEncoder", spec, source);
    const { EncoderModel } = await import("./encoder_model.ts");
    return this.#keep(await EncoderModel.load(this.device, opened, loadOptions));
  }

  /**
   * Loads an encoder–decoder such as Marian or T5, for `translate`, `summarize` and `generate`. Throws as {@link Engine.load}.
   *
   * @example
   * const model = await engine.loadSeq2Seq("hf:owner/name");
   * const { text } = await model.translate("你好，世界。");
   */
  async loadSeq2Seq(spec: SourceSpec, options: EngineLoadOptions = {}): Promise<Seq2SeqModel> {
    checkOptionNames("loadSeq2Seq", options, LOAD_OPTIONS);
    const { source, ...loadOptions } = options;
    const opened = await this.open("loadSeq2Seq", spec, source);
    const { Seq2SeqModel } = await import("./seq2seq_model.ts");
    return this.#keep(await Seq2SeqModel.load(this.device, opened, loadOptions));
  }

  /**
   * Loads a model of speech such as Whisper or Moonshine, for `transcribe`. Throws as {@link Engine.load}.
   *
   * @example
   * const model = await engine.loadSpeech("hf:owner/name");
   * const { text } = await model.transcribe({ samples, sampleRate: 16000 });
   */
  async loadSpeech(spec: SourceSpec, options: EngineLoadOptions = {}): Promise<SpeechModel> {
    checkOptionNames("loadSpeech", options, LOAD_OPTIONS);
    const { source, ...loadOptions } = options;
    const opened = await this.open("loadSpeech", spec, source);
    const { SpeechModel } = await import("./speech_model.ts");
    return this.#keep(await SpeechModel.load(this.device, opened, loadOptions));
  }

  /**
   * Loads a LoRA adapter as published, beside a model that this engine loaded, and uses it; resolves with its name. Throws as {@link Engine.load}
   * and {@link TextModel.loadAdapter}.
   *
   * @example
   * const name = await engine.loadAdapter(model, "hf:owner/adapter");
   * await model.useAdapter(); // without it
   * await model.useAdapter(name);
   */
  async loadAdapter(
    model: TextModel | Seq2SeqModel | EncoderModel,
    spec: SourceSpec,
    { source, ...options }: LoadAdapterOptions & { readonly source?: OpenSourceOptions } = {},
  ): Promise<string> {
    const name = await model.loadAdapter(await this.open("loadAdapter", spec, source), options);
    await model.useAdapter(name);
    return name;
  }

  /** Loads a checkpoint as the kind of model that its config describes; `kind` of the result tells. Throws as {@link Engine.load}. */
  async loadAny(spec: SourceSpec, options: EngineLoadOptions = {}): Promise<AnyModel> {
    checkOptionNames("loadAny", options, LOAD_OPTIONS);
    const { source, ...loadOptions } = options;
    const opened = await this.open("loadAny", spec, source);
    const { openCheckpoint } = await import("../formats/checkpoint.ts");
    const { openModel } = await import("../models/registry.ts");
    const checkpoint = await openCheckpoint(opened, { signal: options.signal });
    switch (openModel(checkpoint.config).kind) {
      case "decoder": {
        const { TextModel } = await import("./text_model.ts");
        return this.#keep(await TextModel.load(this.device, checkpoint, loadOptions));
      }
      case "encoder-decoder": {
        const { Seq2SeqModel } = await import("./seq2seq_model.ts");
        return this.#keep(await Seq2SeqModel.load(this.device, checkpoint, loadOptions));
      }
      case "speech": {
        const { SpeechModel } = await import("./speech_model.ts");
        return this.#keep(await SpeechModel.load(this.device, checkpoint, loadOptions));
      }
      case "encoder": {
        const { cacheTokens, maxSequences, cacheDtype, ...rest } = loadOptions;
        const wrong = Object.entries({ cacheTokens, maxSequences, cacheDtype }).find(([, v]) => v !== undefined);
        if (wrong) throw new HeedError("USAGE", `loadAny: an encoder has no cache; got ${wrong[0]}. Leave it out.`);
        const { EncoderModel } = await import("./encoder_model.ts");
        return this.#keep(await EncoderModel.load(this.device, checkpoint, rest));
      }
    }
  }

  /** Finds a checkpoint as {@link load} does, without loading it; `op` is named in errors. Throws `USAGE`, `DISPOSED`, and as its place does. */
  async open(op: string, spec: SourceSpec, options?: OpenSourceOptions): Promise<Source> {
    if (this.#disposed) throw new HeedError("DISPOSED", `engine: ${op} after dispose. Create a new engine.`);
    if (typeof spec !== "string" && (typeof spec !== "object" || spec === null)) {
      throw new HeedError("USAGE", `${op}: a model is hf:owner/name, a URL, a folder or files; got ${String(spec)}.`);
    }
    return this.#openSource(spec, options);
  }

  #keep<M extends LoadedModel>(model: M): M {
    this.#models.add(model);
    model.whenDisposed(() => this.#models.delete(model));
    return model;
  }

  /**
   * Runs small golden cases for the kernel variants of this device and takes those that give wrong results out of use, so that
   * their ops fall back to others. Run it before models are loaded. Throws `ABORTED`, `DEVICE_LOST` and `DISPOSED`.
   *
   * @example
   * const { ok, variants } = await engine.selfTest();
   * if (!ok) console.warn(variants.filter((v) => !v.ok));
   */
  async selfTest(options: SelfTestOptions = {}): Promise<SelfTestReport> {
    if (this.#disposed) throw new HeedError("DISPOSED", "engine: self test after dispose. Create a new engine.");
    // The cases bring the reference with them, which nothing else needs.
    const { selfTest } = await import("./self_test.ts");
    const report = await selfTest(this.device, options);
    // Their plans may hold a variant that is out of use now.
    this.programs.clear();
    return report;
  }

  /**
   * What the device does at most, in about a second: multiply-adds and copies, nothing else. Throws `ABORTED`, `DEVICE_LOST` and
   * `DISPOSED`.
   */
  async measure(options: { readonly signal?: AbortSignal } = {}): Promise<Speed> {
    if (this.#disposed) throw new HeedError("DISPOSED", "engine: measure after dispose. Create a new engine.");
    const { measureSpeed } = await import("../gpu/probe.ts");
    return measureSpeed(this.device, options);
  }

  /** Frees every model and the device, unless that is the caller's own. Idempotent. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    this.programs.dispose();
    await Promise.allSettled([...this.#models].map((m) => m.dispose()));
    this.device.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }
}

/** Requests a device and makes an engine on it; `openStore` opens what keeps the measurements of kernels. */
export async function createEngineWith(
  options: EngineOptions,
  openSource: OpenSource,
  openStore?: () => Promise<TuneStore | undefined>,
): Promise<Engine> {
  if (typeof options !== "object" || options === null) {
    throw new HeedError("USAGE", `createEngine: options must be an object; got ${String(options)}.`);
  }
  const { autotune: wanted, ...request } = options;
  if (wanted !== undefined && typeof wanted !== "boolean") {
    const got = String(wanted);
    throw new HeedError(
      "USAGE",
      `createEngine: autotune must be true or false; got ${got}. Leave it out for the default.`,
    );
  }
  const device = await Device.request(request);
  const byDefault = openStore !== undefined && !device.facts.software;
  if (!(wanted ?? byDefault) || device.facts.fixedRows) return new Engine(device, openSource);
  try {
    const { autotune } = await import("../program/tune.ts");
    return new Engine(device, openSource, await autotune(device, { store: await openStore?.() }));
  } catch (error) {
    device.dispose();
    throw error;
  }
}
