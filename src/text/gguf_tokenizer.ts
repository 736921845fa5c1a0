import { HeedError } from "../core/errors.ts";
import type { JsonObject } from "../core/json.ts";
import { badFile, describe, isId } from "./json_fields.ts";
import { PIECE, type SentencePieceModel } from "./sentencepiece.ts";
import { sentencePieceDecoder } from "./sentencepiece_files.ts";
import { loadTokenizer, type Tokenizer } from "./tokenizer.ts";

type Metadata = ReadonlyMap<string, unknown>;

const PREFIX = "tokenizer.ggml.";
const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
/** How words are cut, by `tokenizer.ggml.pre`: an expression, or GPT-2's own words, digits one by one where it says so. */
const LLAMA3 = `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
const QWEN2 = LLAMA3.replace("\\p{N}{1,3}", "\\p{N}");
const WORDS: ReadonlyMap<string, { readonly regex?: string; readonly digits?: boolean }> = new Map([
  ...["gpt-2", "phi-2", "olmo", "jais", "trillion", "mpt", "default"].map((name) => [name, {}] as const),
  ...["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"].map(
    (name) => [name, { digits: true }] as const,
  ),
  ...["llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe", "falcon3", "pixtral"].map(
    (name) => [name, { regex: LLAMA3 }] as const,
  ),
  ...["qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"].map((name) => [name, { regex: QWEN2 }] as const),
]);

/**
 * The tokenizer in a GGUF file's metadata: SentencePiece's (`llama`, `t5`) or byte-level BPE (`gpt2`); `undefined` where there is none.
 * Throws `BAD_FILE`, `UNSUPPORTED`.
 */
export function loadGgufTokenizer(metadata: Metadata): Tokenizer | undefined {
  const model = metadata.get(`${PREFIX}model`);
  const tokens = metadata.get(`${PREFIX}tokens`);
  if (model === undefined || model === "none" || model === "no_vocab" || tokens === undefined) return undefined;
  if (!Array.isArray(tokens) || !tokens.every((token) => typeof token === "string")) {
    throw badFile("tokenizer.ggml.tokens must be a list of texts", describe(typeof tokens));
  }
  const types = numbers(metadata, "token_type", tokens.length, PIECE.normal);
  const added = addedTokens(tokens, types);
  const config = namedTokens(metadata, tokens, model === "llama" || metadata.get(`${PREFIX}pre`) === "llama-bpe");
  switch (model) {
    case "llama":
    case "t5":
      return loadTokenizer(sentencePieceJson(metadata, { tokens, types, added, isT5: model === "t5" }), config);
    case "gpt2":
      return loadTokenizer(bytePairJson(metadata, { tokens, types, added }), config);
    default:
      throw new HeedError(
        "UNSUPPORTED",
        `gguf: the tokenizer must be llama, t5 or gpt2 (tokenizer.ggml.model); got ${describe(model)}. Give token ids.`,
      );
  }
}

interface Vocabulary {
  readonly tokens: readonly string[];
  readonly types: readonly number[];
  readonly added: readonly JsonObject[];
}

/** Control tokens, and those that the model's makers put beside its pieces. */
function addedTokens(tokens: readonly string[], types: readonly number[]): JsonObject[] {
  return tokens.flatMap((content, id) => {
    const type = types[id];
    const special = type === PIECE.control || type === PIECE.unknown;
    return special || type === PIECE.userDefined ? [{ id, content, special, normalized: false }] : [];
  });
}

function namedTokens(metadata: Metadata, tokens: readonly string[], startsWithBos: boolean): JsonObject {
  const token = (name: string): string | undefined => {
    const id = metadata.get(`${PREFIX}${name}_token_id`);
    return isId(id) ? tokens[id] : undefined;
  };
  const flag = (name: string, usual: boolean): boolean => {
    const value = metadata.get(`${PREFIX}${name}`);
    return typeof value === "boolean" ? value : usual;
  };
  return {
    bos_token: token("bos"),
    eos_token: token("eos"),
    unk_token: token("unknown"),
    pad_token: token("padding"),
    add_bos_token: flag("add_bos_token", startsWithBos),
    add_eos_token: flag("add_eos_token", metadata.get(`${PREFIX}model`) === "t5"),
  };
}

function sentencePieceJson(
  metadata: Metadata,
  { tokens, types, added, isT5 }: Vocabulary & { readonly isT5: boolean },
): JsonObject {
  const scores = numbers(metadata, "scores", tokens.length, 0);
  const unknown = types.indexOf(PIECE.unknown);
  const named = metadata.get(`${PREFIX}unknown_token_id`);
  const unkId = unknown >= 0 ? unknown : isId(named) && named < tokens.length ? named : 0;
  const flag = (name: string, usual: boolean): boolean => (metadata.get(`${PREFIX}${name}`) ?? usual) === true;
  const charsmap = metadata.get(`${PREFIX}precompiled_charsmap`);
  const file: SentencePieceModel = {
    kind: isT5 ? "Unigram" : "BPE",
    pieces: tokens.map((piece, id) => ({ piece, score: scores[id] ?? 0, type: types[id] ?? PIECE.normal })),
    unkId,
    bosId: -1,
    eosId: -1,
    padId: -1,
    byteFallback: types.includes(PIECE.byte),
    normalizer: {
      type: "SentencePiece",
      add_dummy_prefix: flag("add_space_prefix", true),
      remove_extra_whitespaces: flag("remove_extra_whitespaces", isT5),
      escape_whitespaces: true,
      user_defined: tokens.filter((_, id) => types[id] === PIECE.userDefined),
      ...(Array.isArray(charsmap) && charsmap.length > 0 && { charsmap: Uint8Array.from(charsmap as number[]) }),
    },
  };
  return {
    normalizer: file.normalizer,
    pre_tokenizer: null,
    post_processor: null,
    decoder: sentencePieceDecoder(file),
    model: { type: "SentencePiece", file, unk_id: unkId },
    // What the makers defined is found by SentencePiece itself.
    added_tokens: added.filter((token) => token["special"] === true),
  };
}

function bytePairJson(metadata: Metadata, { tokens, added }: Vocabulary): JsonObject {
  const merges = metadata.get(`${PREFIX}merges`);
  if (!Array.isArray(merges)) throw badFile("tokenizer.ggml.merges must be a list", describe(typeof merges));
  const pre = metadata.get(`${PREFIX}pre`) ?? "default";
  const words = typeof pre === "string" ? WORDS.get(pre) : undefined;
  if (!words) {
    throw new HeedError(
      "UNSUPPORTED",
      `gguf: words must be cut as one of ${[...WORDS.keys()].join(", ")} (tokenizer.ggml.pre); got ${describe(pre)}. Give token ids.`,
    );
  }
  const vocab = new Map(tokens.map((piece, id) => [piece, id]));
  const split = words.regex
    ? [{ type: "Split", pattern: { Regex: words.regex }, behavior: "Isolated", invert: false }]
    : words.digits
      ? [{ type: "Digits", individual_digits: true }]
      : [];
  const bytes = { type: "ByteLevel", add_prefix_space: false, use_regex: words.regex === undefined };
  return {
    normalizer: pre === "qwen2" ? { type: "NFC" } : null,
    pre_tokenizer: { type: "Sequence", pretokenizers: [...split, bytes] },
    post_processor: null,
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", vocab: Object.fromEntries(vocab), merges, ignore_merges: words.regex === LLAMA3 },
    added_tokens: added,
  };
}

/** A list of as many numbers as there are tokens; `usual` for each where the metadata has no such list. */
function numbers(metadata: Metadata, name: string, count: number, usual: number): number[] {
  const list = metadata.get(PREFIX + name);
  if (list === undefined) return Array.from({ length: count }, () => usual);
  if (Array.isArray(list) && list.length === count && list.every((value) => typeof value === "number")) return list;
  throw badFile(`tokenizer.ggml.${name} must have a number for each of ${count} tokens`, describe(typeof list));
}
