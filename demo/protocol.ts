import type { Samples } from "./sound.ts";
import type { LayerWeights, TokenText } from "./attention/maps.ts";
import type {
  AdapterFacts,
  DownloadUsage,
  Finish,
  GenerationStats,
  HeedErrorCode,
  SelfTestReport,
  Speed,
  Tier,
} from "../src/index.ts";

/** A failure as it crosses from the worker: classes do not survive the journey. */
export interface Failure {
  readonly code: HeedErrorCode;
  readonly message: string;
}

/** What every call to the worker resolves with. */
export type Outcome<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: Failure };

/** The device that the worker's engine runs on. */
export interface DeviceReport {
  readonly adapter: AdapterFacts;
  readonly tier: Tier;
  /** Every tier that this adapter can be asked for. */
  readonly tiers: readonly Tier[];
  /** True where the CPU does the work. */
  readonly software: boolean;
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
}

/** What names a model: a Hub id or URL, or files by their path inside the model's folder. */
export type ModelSpec = string | ReadonlyMap<string, File>;

/** What a model is loaded for; the page holds one of each. */
export type Slot = "text" | "translator" | "reader" | "listener";

/** What an encoder can be asked. */
export type Ability = "answer" | "classify" | "label" | "fill" | "embed";

/** The loaded model. */
export interface ModelReport {
  readonly family: string;
  readonly source: string;
  readonly contextLength: number;
  readonly vocabSize: number;
  readonly layers: number;
  readonly heads: number;
  /** False where the checkpoint has no tokenizer.json. */
  readonly hasTokenizer: boolean;
  readonly gpuBytes: number;
  /** Of an encoder. */
  readonly abilities?: readonly Ability[];
  /** How its masks are written. */
  readonly mask?: string | undefined;
}

/** How far a load has come: bytes of a file that have arrived, or of weights that have reached the GPU. */
export interface LoadReport {
  /** Set while this file is downloaded. */
  readonly file?: string;
  readonly loadedBytes: number;
  readonly totalBytes: number;
}

/** What the page may ask of a generation; what is left out is the checkpoint's own default. */
export interface GenerateRequest {
  /** Text, or the ids of a text that goes on. */
  readonly prompt: string | readonly number[];
  readonly maxTokens?: number;
  readonly greedy?: boolean;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
  /** Send the attention of each step, as it is written. */
  readonly watch?: boolean;
  /** So many first tokens see each other both ways; all of the prompt. */
  readonly prefix?: number | "prompt";
}

/** The attention of one step: of the token at `position`, in every layer and head. */
export interface WatchedStep {
  readonly token: TokenText;
  readonly position: number;
  readonly layers: readonly LayerWeights[];
}

/** New text, the steps that were watched since the last report, and the GPU memory in use. */
export interface PieceReport {
  readonly text: string;
  readonly pieces: number;
  readonly steps: readonly WatchedStep[];
  readonly gpuBytes: number;
}

/** A generation that has ended. */
export interface WritingReport {
  readonly text: string;
  readonly prompt: readonly TokenText[];
  readonly tokens: readonly TokenText[];
  readonly finish: Finish;
  readonly seed: number;
  readonly stats: GenerationStats;
  readonly gpuBytes: number;
}

/** A token that may come next, and how likely it is. */
export interface Candidate {
  readonly token: TokenText;
  readonly probability: number;
}

/** A head by layer and number, both from 0. */
export interface HeadName {
  readonly layer: number;
  readonly head: number;
}

/** A forward pass to look into. */
export interface LookRequest {
  readonly text: string | readonly number[];
  /** Heads that are switched off. */
  readonly ablate?: readonly HeadName[];
  /** So many first tokens see each other both ways. */
  readonly prefix?: number | "prompt";
}

/** What a forward pass showed. */
export interface LookReport {
  readonly tokens: readonly TokenText[];
  readonly layers: readonly LayerWeights[];
  readonly next: readonly Candidate[];
}

/** The three steps of one head over a text, with its numbers. */
export interface StepsReport {
  readonly tokens: readonly TokenText[];
  /** `q·k / √D`, `[T, T]`. */
  readonly scores: Float32Array;
  /** After mask and softmax, `[T, T]`. */
  readonly probs: Float32Array;
  /** `[T, D]`: the values, and their weighted sums. */
  readonly values: Float32Array;
  readonly mixed: Float32Array;
  readonly headDim: number;
}

/** Text that goes on with heads switched off. */
export interface ContinueRequest {
  readonly ids: readonly number[];
  readonly ablate: readonly HeadName[];
  readonly tokens: number;
  readonly prefix: number;
}

/** Something to translate. */
export interface TranslateRequest {
  readonly text: string;
  /** Translations that are searched at once; 1 shows the steps. */
  readonly beams: number;
  /** The decoder looks at one token of the source alone: the one of the largest score. */
  readonly hard: boolean;
}

/** One step of a translation: from the token before to the one that was chosen. */
export interface TranslationStep {
  /** What the decoder read: its query looks at the source. */
  readonly query: TokenText;
  readonly chosen: TokenText;
  /** By falling probability. */
  readonly candidates: readonly Candidate[];
  /** Cross-attention `[heads, 1, source tokens]` of each layer. */
  readonly layers: readonly LayerWeights[];
}

/** A translation with its steps; none where beams were searched. */
export interface TranslateReport {
  readonly text: string;
  readonly source: readonly TokenText[];
  readonly steps: readonly TranslationStep[];
  readonly layers: number;
  readonly heads: number;
}

/** Something for an encoder to read. */
export interface ReadRequest {
  readonly ability: Ability;
  readonly text: string;
  /** The question, or the text to compare with. */
  readonly second?: string | undefined;
}

/** A stretch of a text: `text.slice(start, end)`. */
export interface Span {
  readonly start: number;
  readonly end: number;
  readonly label: string;
}

/** A number as a bar; `share` is its length, from 0 to 1. */
export interface Bar {
  readonly label: string;
  readonly share: number;
  readonly text: string;
}

/** What an encoder said. */
export interface ReadReport extends Omit<LookReport, "next"> {
  /** The last tokens are so much padding, which brought the text to the length of another in its batch. */
  readonly padding: number;
  readonly text: string;
  readonly headline: string;
  readonly spans: readonly Span[];
  readonly bars: readonly (readonly Bar[])[];
}

/** What was said in a sound, and where each step of the decoder looked in it. */
export interface ListenReport {
  readonly text: string;
  /** Length of the sound. */
  readonly seconds: number;
  readonly elapsedMs: number;
  readonly layers: number;
  readonly heads: number;
  /** What the decoder read at each step; empty for a long sound. */
  readonly queries: readonly TokenText[];
  /** The encoder's rows, by their time. */
  readonly frames: readonly TokenText[];
  /** Cross-attention of each step, `[heads, 1, frames]` of each layer. */
  readonly steps: readonly (readonly LayerWeights[])[];
}

/** A model that begins with nothing, and how large it is. */
export interface NewModel {
  readonly kind: "new";
  readonly layers: number;
  readonly heads: number;
  readonly width: number;
}

/** Slots whose model can be tuned. */
export type TaughtSlot = Exclude<Slot, "listener">;

/** What is taught: a new model, or the model of a slot in all its weights or by an adapter of some rank beside them. */
export type TaughtModel =
  | NewModel
  | { readonly kind: "tune"; readonly slot: TaughtSlot }
  | { readonly kind: "adapter"; readonly slot: TaughtSlot; readonly rank: number };

/** A line of what is taught in two columns: a sentence and its translation, or a text and its label. */
export interface TaughtPair {
  /** From 1, as the person sees it. */
  readonly line: number;
  readonly first: string;
  readonly second: string;
}

/** What to teach, and how. */
export interface TeachRequest {
  readonly what: TaughtModel;
  /** What the model that is tuned is called; an adapter names it. */
  readonly base: string;
  /** What a language model learns. */
  readonly text: string;
  /** What a translator or an encoder learns. */
  readonly pairs: readonly TaughtPair[];
  /** What it is asked every so often: the beginning of a text, a sentence to translate, a text to label. */
  readonly prompt: string;
  readonly steps: number;
  /** Tokens of a training sequence at most; the context of a new model. */
  readonly length: number;
  readonly batch: number;
  readonly learningRate: number;
  /** Updates between samples. */
  readonly sampleEvery: number;
}

/** Attention over the beginning of the text, or over what is asked. */
export interface TaughtAttention {
  readonly tokens: readonly TokenText[];
  /** What they look at, where that is another text. */
  readonly keyTokens?: readonly TokenText[];
  /** No token sees a later one. */
  readonly causal: boolean;
  readonly layers: readonly LayerWeights[];
  readonly heads: number;
}

/** What happened in a training: an update, a sample, or what the model looks at. */
export interface TeachReport {
  readonly step: number;
  readonly loss?: number;
  readonly validationLoss?: number | undefined;
  readonly learningRate?: number;
  readonly tokensPerSecond?: number;
  readonly sample?: string;
  readonly attention?: TaughtAttention;
}

/** How a training ended, for now. */
export interface TeachOutcome {
  readonly stopped: boolean;
  /** It can go on from where it is. */
  readonly unfinished: boolean;
}

/** What of a training can be saved. */
export type TaughtKind = "model" | "adapter";

/** A model, or an adapter, as files. */
export type TaughtFiles = readonly { readonly name: string; readonly blob: Blob }[];

/** What a model's forward pass reached, beside what the device gives at most. */
export interface SpeedReport extends Speed {
  /** Of the loaded language model, if there is one: decoding one sequence. */
  readonly decode?: {
    readonly model: string;
    readonly tokensPerSecond: number;
    /** Bytes of weights and cache that a token reads, times tokens a second. */
    readonly gigabytesPerSecond: number;
  };
}

/** What the worker does for the page. */
export interface EngineWorker {
  start(tier?: Tier): Promise<Outcome<DeviceReport>>;
  load(slot: Slot, spec: ModelSpec, onProgress: (report: LoadReport) => void): Promise<Outcome<ModelReport>>;
  cancelLoad(): void;
  unload(slot: Slot): Promise<Outcome<null>>;
  generate(request: GenerateRequest, onPiece: (report: PieceReport) => void): Promise<Outcome<WritingReport>>;
  stop(): void;
  look(request: LookRequest): Promise<Outcome<LookReport>>;
  steps(text: readonly number[], head: HeadName, prefix: number): Promise<Outcome<StepsReport>>;
  /** Greedy tokens, computed without a cache because heads are off. */
  continueWith(request: ContinueRequest): Promise<Outcome<readonly TokenText[]>>;
  translate(request: TranslateRequest, onPiece: (text: string) => void): Promise<Outcome<TranslateReport>>;
  listen(sound: Samples): Promise<Outcome<ListenReport>>;
  read(request: ReadRequest): Promise<Outcome<ReadReport>>;
  /** Trains a new model, or tunes the model of a slot; `stop` ends it, and what was learnt stays. */
  teach(request: TeachRequest, onReport: (report: TeachReport) => void): Promise<Outcome<TeachOutcome>>;
  /** Goes on with what was stopped. */
  teachOn(onReport: (report: TeachReport) => void): Promise<Outcome<TeachOutcome>>;
  /** What was taught, as files. */
  taught(kind: TaughtKind): Promise<Outcome<TaughtFiles>>;
  /** Puts a LoRA adapter beside the model of a slot, and uses it. */
  addAdapter(slot: TaughtSlot, name: string, files: ReadonlyMap<string, File>): Promise<Outcome<null>>;
  /** Computes with that adapter from now on, or with none. */
  useAdapter(slot: TaughtSlot, name: string | undefined): Promise<Outcome<null>>;
  /** What downloads take on this device. */
  cache(): Promise<Outcome<DownloadUsage>>;
  /** Removes every download, whole or begun. */
  clearCache(): Promise<Outcome<DownloadUsage>>;
  selfTest(): Promise<Outcome<SelfTestReport>>;
  measure(): Promise<Outcome<SpeedReport>>;
}
