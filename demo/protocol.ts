import type { AdapterFacts, Finish, GenerationStats, HeedErrorCode, Tier } from "../src/index.ts";

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
}

/** What names a model: a Hub id or URL, or files by their path inside the model's folder. */
export type ModelSpec = string | ReadonlyMap<string, File>;

/** The loaded model. */
export interface ModelReport {
  readonly family: string;
  readonly source: string;
  readonly contextLength: number;
  readonly vocabSize: number;
  /** False where the checkpoint has no tokenizer.json. */
  readonly hasTokenizer: boolean;
  readonly gpuBytes: number;
}

/** Bytes of weights that have reached the GPU. */
export interface LoadReport {
  readonly loadedBytes: number;
  readonly totalBytes: number;
}

/** What the page may ask of a generation; what is left out is the checkpoint's own default. */
export interface GenerateRequest {
  readonly prompt: string;
  readonly maxTokens?: number;
  readonly greedy?: boolean;
  readonly temperature?: number;
  readonly seed?: number;
}

/** New text, and the GPU memory in use when it came. */
export interface PieceReport {
  readonly text: string;
  readonly pieces: number;
  readonly gpuBytes: number;
}

/** A generation that has ended. */
export interface WritingReport {
  readonly text: string;
  readonly ids: readonly number[];
  readonly finish: Finish;
  readonly seed: number;
  readonly stats: GenerationStats;
  readonly gpuBytes: number;
}

/** What the worker does for the page. One model at a time; a new one takes the place of the old. */
export interface EngineWorker {
  start(tier?: Tier): Promise<Outcome<DeviceReport>>;
  load(spec: ModelSpec, onProgress: (report: LoadReport) => void): Promise<Outcome<ModelReport>>;
  cancelLoad(): void;
  unload(): Promise<Outcome<null>>;
  generate(request: GenerateRequest, onPiece: (report: PieceReport) => void): Promise<Outcome<WritingReport>>;
  stop(): void;
}
