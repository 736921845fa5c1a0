import { readJsonObject } from "../core/json.ts";
import type { ReadOptions, Source } from "../core/source.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** What tokenizers are opened from: a `Checkpoint`, or anything that has these of it. */
export interface TokenizerPlace {
  readonly source: Source;
  readonly config: Readonly<Record<string, unknown>>;
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
 * Opens what a checkpoint has for a tokenizer; `undefined` where it has none, so that prompts are token ids.
 * Throws `BAD_FILE` where files are there and are no tokenizer, `UNSUPPORTED` for a kind that is not known, `ABORTED`.
 */
export async function openTokenizers(
  { source }: TokenizerPlace,
  { signal }: OpenTokenizersOptions = {},
): Promise<Tokenizers | undefined> {
  const json = await readJsonObject(source, "tokenizer.json", { signal, maxBytes: MAX_TOKENIZER_BYTES });
  if (!json) return undefined;
  // Loaded here, because an engine for attention alone, or a model run on ids, has no use for it.
  const { loadTokenizer } = await import("./tokenizer.ts");
  return { source: loadTokenizer(json, await readJsonObject(source, "tokenizer_config.json", { signal })) };
}
