import { HeedError } from "../core/errors.ts";
import type { Tier } from "../gpu/tiers.ts";

/** What the generate command needs of a loaded model. */
export interface TextModel {
  /** Pieces of text as they are decided; `result` settles when the last one was read. */
  generate(prompt: string | readonly number[], options: GenerationOptions): Generation;
  /** GPU time per kernel of the generations so far, as `--profile` prints it. */
  dispose(): void;
}

/** Undefined leaves the choice to the model's `generation_config.json`, else to Heed's defaults. */
export interface GenerationOptions {
  maxTokens?: number;
  greedy?: boolean;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  seed?: number;
  stop?: readonly string[];
  signal?: AbortSignal;
}

export interface Generation extends AsyncIterable<string> {
  readonly result: Promise<GenerationResult>;
}

export interface GenerationResult {
  text: string;
  ids: { prompt: number[]; generated: number[] };
  finish: "stop" | "length" | "abort";
  stats: Record<string, number>;
}

export interface OpenModelOptions {
  gpu: GPU;
  model: string;
  revision?: string;
  dtype?: string;
  tier?: Tier;
  profile?: boolean;
  signal?: AbortSignal;
  onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/** A model with the engine that runs it. */
export interface OpenModel {
  model: TextModel;
  adapter: Record<string, string>;
  /** Lines of `--profile`. */
  profile(): string;
  dispose(): void;
}

/** Creates an engine and loads a model on it. */
export async function openModel(options: OpenModelOptions): Promise<OpenModel> {
  throw new HeedError("UNSUPPORTED", `generate: this build of Heed loads no models yet; got --model ${options.model}`);
}
