import { isObject, type JsonObject, readJsonObject } from "../core/json.ts";
import type { ReadOptions, Source } from "../core/source.ts";
import { badFile, describe, isId } from "./json_fields.ts";

/** A tokenizer.json and a tokenizer_config.json, as they would be if the repository had them. */
export interface TokenizerJson {
  readonly json: JsonObject;
  readonly config: JsonObject;
}

/** What the small files beside a vocabulary say. */
export interface TokenizerSettings {
  readonly source: Source;
  /** tokenizer_config.json over special_tokens_map.json. */
  readonly config: JsonObject;
  /** `tokenizer_class` without `Fast`, or else the family: `BertTokenizer`, `roberta`. */
  readonly kind: string;
  readonly options: ReadOptions;
}

const MAX_VOCAB_BYTES = 64 << 20;

/** BERT's `vocab.txt`: a piece a line, its id the line's number. `undefined` where there is no such file. */
export async function openVocabTxt({ source, config, options }: TokenizerSettings): Promise<TokenizerJson | undefined> {
  const text = await source.readText("vocab.txt", { ...options, maxBytes: MAX_VOCAB_BYTES });
  if (text === undefined) return undefined;
  const lines = text.split("\n").map((line) => line.replace(/\r$/, ""));
  if (lines.at(-1) === "") lines.pop();
  const vocab = Object.fromEntries(lines.map((piece, id) => [piece, id]));
  const name = (key: string, usual: string): string => tokenName(config[key]) ?? usual;
  const [unk, cls, sep] = [name("unk_token", "[UNK]"), name("cls_token", "[CLS]"), name("sep_token", "[SEP]")];
  for (const token of [unk, cls, sep]) {
    if (vocab[token] === undefined) throw badFile(`vocab.txt must hold ${token}`, `${lines.length} lines without it`);
  }
  const specials = [unk, cls, sep, name("pad_token", "[PAD]"), name("mask_token", "[MASK]")];
  const json = {
    normalizer: {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: config["tokenize_chinese_chars"] !== false,
      strip_accents: config["strip_accents"] ?? null,
      lowercase: config["do_lower_case"] !== false,
    },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: { type: "BertProcessing", cls: [cls, vocab[cls]], sep: [sep, vocab[sep]] },
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: { type: "WordPiece", vocab, unk_token: unk, continuing_subword_prefix: "##" },
    added_tokens: addedTokens(config, new Map(Object.entries(vocab)), specials),
  };
  return {
    json,
    config: { pad_token: "[PAD]", mask_token: "[MASK]", ...config, unk_token: unk, cls_token: cls, sep_token: sep },
  };
}

/** Families whose texts stand between `<s>` and `</s>`, as RoBERTa's. */
const BETWEEN_S = /^(roberta|bart|mbart|longformer|led|xlm-roberta|camembert|deberta)/i;
/** Qwen's words (its tokenizer's own expression): Unicode's letters and single digits. */
const QWEN_WORDS =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** Byte-level BPE from `vocab.json` and `merges.txt`: GPT-2, RoBERTa, BART, OPT, Whisper, Qwen2. `undefined` where one is missing. */
export async function openVocabAndMerges(settings: TokenizerSettings): Promise<TokenizerJson | undefined> {
  const { source, config, kind, options } = settings;
  const merges = await source.readText("merges.txt", { ...options, maxBytes: MAX_VOCAB_BYTES });
  if (merges === undefined) return undefined;
  const vocab = await readJsonObject(source, "vocab.json", { ...options, maxBytes: MAX_VOCAB_BYTES });
  if (!vocab) throw badFile("merges.txt comes with vocab.json", `no vocab.json in ${source.description}`);
  const ids = new Map(Object.entries(vocab) as [string, number][]);
  const extra = await readAddedFile(source, options);
  for (const [token, id] of extra) ids.set(token, id);
  const surrounded = BETWEEN_S.test(kind);
  const isQwen = /^qwen/i.test(kind);
  const end = isQwen || ids.has("<|endoftext|>") ? "<|endoftext|>" : "</s>";
  const usual = surrounded
    ? {
        bos_token: "<s>",
        eos_token: "</s>",
        unk_token: "<unk>",
        cls_token: "<s>",
        sep_token: "</s>",
        pad_token: "<pad>",
        mask_token: "<mask>",
      }
    : { ...(!isQwen && { bos_token: end }), eos_token: end };
  const all: JsonObject = { ...usual, ...config };
  const named = (key: string): [string, number] => {
    const token = tokenName(all[key]) ?? "";
    const id = ids.get(token);
    if (id === undefined) throw badFile(`vocab.json must hold the ${key}`, describe(token));
    return [token, id];
  };
  const words = { type: "ByteLevel", add_prefix_space: config["add_prefix_space"] === true, use_regex: !isQwen };
  const split = { type: "Split", pattern: { Regex: QWEN_WORDS }, behavior: "Isolated", invert: false };
  const json = {
    normalizer: isQwen ? { type: "NFC" } : null,
    pre_tokenizer: isQwen ? { type: "Sequence", pretokenizers: [split, words] } : words,
    post_processor: surrounded ? { type: "RobertaProcessing", cls: named("cls_token"), sep: named("sep_token") } : null,
    decoder: { type: "ByteLevel" },
    // The unknown token names nothing here: every byte is a piece.
    model: { type: "BPE", vocab, merges: mergeLines(merges) },
    added_tokens: addedTokens(
      all,
      ids,
      Object.keys(usual).map((key) => tokenName(all[key]) ?? ""),
      extra,
    ),
  };
  return { json, config: all };
}

/** The merges of merges.txt, whose first line may tell its version. */
function mergeLines(text: string): string[] {
  return text.split("\n").flatMap((line, i) => {
    const merge = line.replace(/\r$/, "");
    return merge === "" || (i === 0 && merge.startsWith("#version")) ? [] : [merge];
  });
}

/** added_tokens.json: ids by content. */
async function readAddedFile(source: Source, options: ReadOptions): Promise<[string, number][]> {
  const added = Object.entries((await readJsonObject(source, "added_tokens.json", options)) ?? {});
  for (const [token, id] of added) {
    if (!isId(id))
      throw badFile(`the id of ${describe(token)} in added_tokens.json must be a whole number`, describe(id));
  }
  return added as [string, number][];
}

/**
 * The `added_tokens` of a tokenizer that has none: those of `added_tokens_decoder`, the special tokens that the settings name, and
 * whatever added_tokens.json had.
 */
export function addedTokens(
  config: JsonObject,
  ids: ReadonlyMap<string, number>,
  specials: readonly string[],
  added: readonly (readonly [content: string, id: number])[] = [],
): JsonObject[] {
  const byId = new Map<number, JsonObject>(added.map(([content, id]) => [id, { id, content, special: false }]));
  const extra = config["additional_special_tokens"] ?? config["extra_special_tokens"];
  const named = [...specials, ...(Array.isArray(extra) ? extra.map((token) => tokenName(token) ?? "") : [])];
  for (const content of named) {
    const id = ids.get(content);
    // RoBERTa's mask takes the space before it.
    if (id !== undefined) byId.set(id, { id, content, special: true, normalized: false, lstrip: content === "<mask>" });
  }
  const decoder = isObject(config["added_tokens_decoder"]) ? config["added_tokens_decoder"] : {};
  for (const [id, token] of Object.entries(decoder)) {
    if (isObject(token)) byId.set(Number(id), { ...token, id: Number(id) });
  }
  return [...byId.values()].sort((a, b) => (a["id"] as number) - (b["id"] as number));
}

/** The content of a token that is written as a string or as an object. */
export function tokenName(value: unknown): string | undefined {
  const content = isObject(value) ? value["content"] : value;
  return typeof content === "string" ? content : undefined;
}
