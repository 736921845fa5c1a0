import { HeedError } from "../core/errors.ts";
import type { Tier } from "../gpu/tiers.ts";
import type { EncoderModel } from "../tasks/encoder_model.ts";
import type { AnyModel, Engine, EngineLoadOptions } from "../tasks/engine.ts";
import type { TextModel } from "../tasks/text_model.ts";
import type { KvDType } from "../ops/kv_pool.ts";
import type { LoadDType } from "../models/weight_stream.ts";
import { byteProgress } from "./progress.ts";

/** The options of commands that load a model. */
export interface ModelOptions {
  model?: string;
  revision?: string;
  adapter?: string;
  dtype?: LoadDType;
  cacheTokens?: number;
  cacheDtype?: KvDType;
  tier?: Tier;
}

/** Loads a causal model with its adapter, if one is named, showing how far it is. */
export function loadModel(
  engine: Engine,
  spec: string,
  options: ModelOptions,
  signal: AbortSignal,
): Promise<TextModel> {
  return loadWithAdapter(engine, options, signal, (load) => engine.load(spec, load));
}

/** Loads a model of whatever kind its config describes, with its adapter, if one is named, showing how far it is. */
export function loadAnyModel(
  engine: Engine,
  spec: string,
  options: ModelOptions,
  signal: AbortSignal,
): Promise<AnyModel> {
  return loadWithAdapter(engine, options, signal, (load) => engine.loadAny(spec, load));
}

/** Loads an encoder with its adapter, if one is named, showing how far it is. */
export function loadEncoder(
  engine: Engine,
  spec: string,
  options: ModelOptions,
  signal: AbortSignal,
): Promise<EncoderModel> {
  return loadWithAdapter(engine, options, signal, ({ dtype, source, onProgress }) =>
    engine.loadEncoder(spec, { dtype, signal, source, onProgress }),
  );
}

/** Loads a model by `load` with its adapter, if one is named, showing how far it is. Throws `UNSUPPORTED` for one of speech with an adapter. */
export async function loadWithAdapter<M extends AnyModel>(
  engine: Engine,
  options: ModelOptions,
  signal: AbortSignal,
  load: (options: EngineLoadOptions) => Promise<M>,
): Promise<M> {
  const model = await loadWithProgress(signal, options, load);
  if (options.adapter === undefined) return model;
  // By the wider type: M does not narrow by its kind.
  const any: AnyModel = model;
  if (any.kind === "speech") {
    throw new HeedError(
      "UNSUPPORTED",
      `adapter: adapters go beside models of text; ${any.source} is one of speech. Leave --adapter out.`,
    );
  }
  await engine.loadAdapter(any, options.adapter, { signal });
  return model;
}

/** Loads a model of any kind by `load`, showing how far it is. */
export async function loadWithProgress<M>(
  signal: AbortSignal,
  { dtype, cacheTokens, cacheDtype }: ModelOptions,
  load: (options: EngineLoadOptions) => Promise<M>,
): Promise<M> {
  const download = byteProgress("downloading");
  const upload = byteProgress("loading");
  try {
    return await load({
      dtype,
      cacheTokens,
      cacheDtype,
      signal,
      source: { onProgress: ({ loadedBytes, totalBytes }) => download.update(loadedBytes, totalBytes) },
      onProgress: ({ loadedBytes, totalBytes }) => {
        download.stop();
        upload.update(loadedBytes, totalBytes);
      },
    });
  } finally {
    download.stop();
    upload.stop();
  }
}

/** The model with its revision; only the Hub has revisions. Throws `USAGE` in the name of `command`. */
export function modelSpec(command: string, model: string, revision: string | undefined): string {
  if (model.trim() === "") {
    throw new HeedError(
      "USAGE",
      `${command}: --model must name something; got nothing. Give a Hub id (hf:owner/name), a URL, or a folder.`,
    );
  }
  if (revision === undefined) return model;
  if (model.startsWith("hf:") && !model.includes("@")) return `${model}@${revision}`;
  throw new HeedError(
    "USAGE",
    `${command}: --revision needs a Hub model without one of its own (hf:owner/name); got --model ${model}. Leave it out.`,
  );
}

/** All of stdin, without the line's end that a shell adds. */
export async function readStdin(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks)
    .toString("utf8")
    .replace(/\r?\n$/, "");
}
