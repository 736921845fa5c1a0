import { type JsonObject, readJsonObject } from "../core/json.ts";
import type { ReadOptions, Source } from "../core/source.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** What tokenizers are opened from: a `Checkpoint`, or anything that has these of it. */
export interface TokenizerPlace {
  readonly source: Source;
  readonly config: Readonly<JsonObject>;
  /** The metadata of a GGUF file, which holds its tokenizer. */
  readonly metadata?: ReadonlyMap<string, unknown>;
}

/** How {@link openTokenizers} reads. */
export interface OpenTokenizersOptions extends ReadOptions {
  /** The family that will use them, such as `marian`; by default `model_type` of config.json. */
  readonly family?: string;
}

/** A checkpoint's tokenizers. */
export interface Tokenizers {
  /** Makes ids of what the model reads. */
  readonly source: Tokenizer;
  /** Makes text of what the model writes, where that is another one (Marian); else `source` does. */
  readonly target?: Tokenizer;
}

const MAX_TOKENIZER_BYTES = 64 << 20;

/**
 * Opens what a checkpoint has for a tokenizer: `tokenizer.json`; else `source.spm` with `target.spm` and `vocab.json`, a SentencePiece
 * model, `vocab.json` with `merges.txt`, or `vocab.txt`. `undefined` where it has none of them, so that prompts are token ids.
 * Throws `BAD_FILE` where files are there and are no tokenizer, `UNSUPPORTED` for a kind that is not known, `ABORTED`.
 */
export async function openTokenizers(
  { source, config, metadata }: TokenizerPlace,
  { signal, family }: OpenTokenizersOptions = {},
): Promise<Tokenizers | undefined> {
  if (metadata) {
    const { loadGgufTokenizer } = await import("./gguf_tokenizer.ts");
    const tokenizer = loadGgufTokenizer(metadata);
    return tokenizer && { source: tokenizer };
  }
  const json = await readJsonObject(source, "tokenizer.json", { signal, maxBytes: MAX_TOKENIZER_BYTES });
  const settings = await readJsonObject(source, "tokenizer_config.json", { signal });
  if (json) {
    // Loaded here, because an engine for attention alone, or a model run on ids, has no use for it.
    const { loadTokenizer } = await import("./tokenizer.ts");
    return { source: loadTokenizer(json, settings) };
  }
  const { openOlderFiles } = await import("./older_files.ts");
  const kind = family ?? (typeof config["model_type"] === "string" ? config["model_type"] : "");
  return openOlderFiles({ source, settings: settings ?? {}, kind, signal });
}
