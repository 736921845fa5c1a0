import { type JsonObject, readJsonObject } from "../core/json.ts";
import type { ReadOptions, Source } from "../core/source.ts";
import type { Tokenizers } from "./open_tokenizers.ts";
import { openMarianFiles, openSentencePieceFile } from "./sentencepiece_files.ts";
import { loadTokenizer, type Tokenizer } from "./tokenizer.ts";
import { openVocabAndMerges, openVocabTxt, type TokenizerJson } from "./vocab_files.ts";

/** What {@link openOlderFiles} opens. */
export interface OlderFiles extends ReadOptions {
  readonly source: Source;
  /** tokenizer_config.json. */
  readonly settings: JsonObject;
  /** The family, such as `roberta`. */
  readonly kind: string;
}

/** The tokenizers of a repository from before tokenizer.json, made in memory; `undefined` where it has no vocabulary either. */
export async function openOlderFiles({ source, settings, kind, signal }: OlderFiles): Promise<Tokenizers | undefined> {
  const options: ReadOptions = { signal };
  const map = (await readJsonObject(source, "special_tokens_map.json", options)) ?? {};
  // Null in tokenizer_config.json says nothing, and must not hide what the map says.
  const said = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== null));
  const all = { source, config: { ...map, ...said }, kind, options };
  const marian = await openMarianFiles(all);
  if (marian) return { source: load(marian.source), target: load(marian.target) };
  const files = (await openSentencePieceFile(all)) ?? (await openVocabAndMerges(all)) ?? (await openVocabTxt(all));
  return files && { source: load(files) };
}

function load({ json, config }: TokenizerJson): Tokenizer {
  return loadTokenizer(json, config);
}
