import { HeedError } from "../../core/errors.ts";
import type { JsonObject } from "../../core/json.ts";
import { createNormalizer } from "../../text/normalizers.ts";
import { createPreTokenizer } from "../../text/pre_tokenizers.ts";
import { learnMerges } from "./merges.ts";
import { learnUnigram } from "./unigram_pieces.ts";

/** The kinds of tokenizer that can be trained. */
export const TOKENIZER_TYPES = ["bpe", "unigram", "wordpiece", "characters"] as const;

/** One of {@link TOKENIZER_TYPES}: byte-level BPE, Unigram, WordPiece, or a token a character. */
export type TokenizerType = (typeof TOKENIZER_TYPES)[number];

/** What no piece spans two of. */
export const TOKENIZER_SPLITS = ["han", "punctuation"] as const;

/** One of {@link TOKENIZER_SPLITS}. */
export type TokenizerSplit = (typeof TOKENIZER_SPLITS)[number];

/** What a tokenizer is to be. */
export interface TrainTokenizerOptions {
  readonly type: TokenizerType;
  /**
   * Tokens in all, special ones included; there are fewer where the text yields no more, and more where a unigram tokenizer, which keeps
   * every character, has too many of them. Not for "characters", which takes all.
   */
  readonly vocabSize?: number;
  /** Special tokens, which get the first ids in this order. WordPiece has BERT's five unless given. */
  readonly special?: readonly string[];
  /** Put before every text that is encoded; one of `special`, or added to it. */
  readonly start?: string;
  /** Put after every text. */
  readonly end?: string;
  /**
   * Stands for characters that the vocabulary lacks; byte-level BPE lacks none. Default "<unk>", WordPiece's "[UNK]". Empty for
   * none, where the type is "characters".
   */
  readonly unknown?: string;
  /** A pair of symbols that is rarer is not joined (BPE and WordPiece). Default 2. */
  readonly minFrequency?: number;
  /** Make each Chinese character, or each punctuation mark, a word of its own, which no piece goes beyond; WordPiece always does both. */
  readonly split?: readonly TokenizerSplit[];
  /** Fold case and strip accents (WordPiece). Default false. */
  readonly lowercase?: boolean;
}

/** The two files of a tokenizer, to be written as JSON. */
export interface TokenizerFiles {
  readonly tokenizer: JsonObject;
  /** tokenizer_config.json. */
  readonly config: JsonObject;
}

/** What the types differ in. */
interface Kind {
  readonly normalizer: JsonObject | null;
  readonly preTokenizer: JsonObject | null;
  readonly decoder: JsonObject;
  /** The `model` of tokenizer.json; `offset` is the number of special tokens, which it also holds. */
  readonly model: (counts: ReadonlyMap<string, number>, specials: readonly string[]) => JsonObject;
}

/** Inside the block of unified ideographs; written as its ends, because engines name scripts differently. */
const HAN = "[\u4e00-\u9fff]";

/**
 * Trains a tokenizer on texts, such as the lines of a file with their line ends, and gives the `tokenizer.json` that the Hub's
 * libraries read. The same texts and options give the same files. Throws `USAGE` for options that make no tokenizer.
 *
 * ```ts
 * const { tokenizer, config } = await trainTokenizer(lines, { type: "bpe", vocabSize: 2000, special: ["<|endoftext|>"] });
 * ```
 */
export async function trainTokenizer(
  texts: Iterable<string> | AsyncIterable<string>,
  options: TrainTokenizerOptions,
): Promise<TokenizerFiles> {
  const specials = specialTokens(options);
  const { vocabSize } = options;
  if (
    options.type !== "characters" &&
    !(Number.isSafeInteger(vocabSize) && Number(vocabSize) > leastSize(options, specials))
  ) {
    throw new HeedError(
      "USAGE",
      `tokenizer: a ${options.type} vocabulary must hold more than ${leastSize(options, specials)} tokens; got ${vocabSize}. Give a larger vocabSize.`,
    );
  }
  const kind = KINDS[options.type](options);
  const counts = await countWords(texts, kind);
  if (counts.size === 0) {
    throw new HeedError(
      "USAGE",
      "tokenizer: text is needed to train on; got none. Check that the files are not empty.",
    );
  }
  return writeFiles(kind, kind.model(counts, specials), specials, options);
}

/** Special tokens in the order of their ids, each once. */
function specialTokens(options: TrainTokenizerOptions): string[] {
  const {
    type,
    start,
    end,
    special = type === "wordpiece" ? ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] : [],
  } = options;
  const needed = type === "bpe" || unknownToken(options) === "" ? [] : [unknownToken(options)];
  return [...new Set([...special, ...needed, ...(start ? [start] : []), ...(end ? [end] : [])])];
}

function unknownToken({ type, unknown }: TrainTokenizerOptions): string {
  return unknown ?? (type === "wordpiece" ? "[UNK]" : "<unk>");
}

function leastSize({ type }: TrainTokenizerOptions, specials: readonly string[]): number {
  return specials.length + (type === "bpe" ? 256 : 0);
}

/** How often each word occurs, as the tokenizer itself will see words. */
async function countWords(texts: Iterable<string> | AsyncIterable<string>, kind: Kind): Promise<Map<string, number>> {
  const normalize = createNormalizer(kind.normalizer);
  const split = createPreTokenizer(kind.preTokenizer);
  const counts = new Map<string, number>();
  for await (const text of texts) {
    for (const word of split(normalize(text), true)) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return counts;
}

/** The splits that were asked for, as pre-tokenizers. */
function splitters({ split = [] }: TrainTokenizerOptions): JsonObject[] {
  const han = { type: "Split", pattern: { Regex: HAN }, behavior: "Isolated", invert: false };
  const punctuation = { type: "Punctuation", behavior: "Isolated" };
  return TOKENIZER_SPLITS.filter((name) => split.includes(name)).map((name) => (name === "han" ? han : punctuation));
}

function inSequence(parts: readonly JsonObject[]): JsonObject {
  const [only] = parts;
  return parts.length === 1 && only ? only : { type: "Sequence", pretokenizers: parts };
}

function vocabOf(pieces: readonly string[]): Record<string, number> {
  return Object.fromEntries([...new Set(pieces)].map((piece, id) => [piece, id]));
}

/** The characters that stand for bytes in byte-level pieces: printable ones themselves, the 68 others from U+0100 on. */
const BYTE_ALPHABET: readonly string[] = [
  [0x21, 0x7e],
  [0xa1, 0xac],
  [0xae, 0xff],
  [0x100, 0x143],
].flatMap(([first = 0, last = 0]) =>
  Array.from({ length: last - first + 1 }, (_, i) => String.fromCodePoint(first + i)),
);

const KINDS: Readonly<Record<TokenizerType, (options: TrainTokenizerOptions) => Kind>> = {
  bpe: (options) => {
    const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
    return {
      normalizer: null,
      // Bytes are the last step: no expression finds Chinese in them.
      preTokenizer: inSequence([...splitters(options), byteLevel]),
      decoder: byteLevel,
      model: (counts, specials) => {
        const { vocabSize = 0, minFrequency } = options;
        const size = vocabSize - specials.length;
        const { pieces, merges } = learnMerges(counts, { size, minFrequency, alphabet: BYTE_ALPHABET });
        return bpeModel([...specials, ...pieces], merges, null);
      },
    };
  },
  unigram: (options) => {
    const metaspace = { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true };
    return {
      normalizer: { type: "NFKC" },
      // A space belongs to the word behind it: first of all, so that no Chinese character is given one.
      preTokenizer: inSequence([metaspace, ...splitters(options)]),
      decoder: metaspace,
      model: (counts, specials) => {
        const pieces = learnUnigram(counts, { size: (options.vocabSize ?? 0) - specials.length });
        const own = pieces.filter(([piece]) => !specials.includes(piece));
        const vocab = [...specials.map((token) => [token, 0] as const), ...own];
        return { type: "Unigram", unk_id: specials.indexOf(unknownToken(options)), vocab, byte_fallback: false };
      },
    };
  },
  wordpiece: (options) => ({
    normalizer: {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: options.lowercase ?? false,
      lowercase: options.lowercase ?? false,
    },
    preTokenizer: { type: "BertPreTokenizer" },
    decoder: { type: "WordPiece", prefix: "##", cleanup: false },
    model: (counts, specials) => {
      const { vocabSize = 0, minFrequency } = options;
      const { pieces } = learnMerges(counts, { size: vocabSize - specials.length, minFrequency, continuing: "##" });
      return {
        type: "WordPiece",
        unk_token: unknownToken(options),
        continuing_subword_prefix: "##",
        max_input_chars_per_word: 100,
        vocab: vocabOf([...specials, ...pieces]),
      };
    },
  }),
  characters: (options) => ({
    normalizer: null,
    preTokenizer: null,
    decoder: { type: "Fuse" },
    model: (counts, specials) => {
      const characters = new Set([...counts.keys()].flatMap((text) => [...text]));
      const pieces = [...characters].sort((a, b) => (a.codePointAt(0) ?? 0) - (b.codePointAt(0) ?? 0));
      // Byte pair encoding without a merge is one token a character.
      return bpeModel(
        [...specials, ...pieces],
        [],
        specials.includes(unknownToken(options)) ? unknownToken(options) : null,
      );
    },
  }),
};

function bpeModel(
  pieces: readonly string[],
  merges: readonly (readonly [string, string])[],
  unknown: string | null,
): JsonObject {
  return {
    type: "BPE",
    dropout: null,
    unk_token: unknown,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: false,
    vocab: vocabOf(pieces),
    merges,
  };
}

function writeFiles(
  kind: Kind,
  model: JsonObject,
  specials: readonly string[],
  options: TrainTokenizerOptions,
): TokenizerFiles {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    tokenizer: {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: specials.map((content, id) => ({ id, content, ...flags })),
      normalizer: kind.normalizer,
      pre_tokenizer: kind.preTokenizer,
      post_processor: frame(specials, options),
      decoder: kind.decoder,
      model,
    },
    config: tokenizerConfig(specials, options),
  };
}

/** What stands around a text, and BERT's way of joining two. */
function frame(specials: readonly string[], options: TrainTokenizerOptions): JsonObject | null {
  const { start, end } = framing(specials, options);
  if (start === undefined && end === undefined) return null;
  const token = (id: string | undefined, type: number): JsonObject[] =>
    id === undefined ? [] : [{ SpecialToken: { id, type_id: type } }];
  const sequence = (id: "A" | "B", type: number): JsonObject => ({ Sequence: { id, type_id: type } });
  const single = [...token(start, 0), sequence("A", 0), ...token(end, 0)];
  const used = [...new Set([start, end])].filter((content) => content !== undefined);
  return {
    type: "TemplateProcessing",
    single,
    pair: [...single, sequence("B", 1), ...token(end, 1)],
    special_tokens: Object.fromEntries(used.map((id) => [id, { id, ids: [specials.indexOf(id)], tokens: [id] }])),
  };
}

function framing(
  specials: readonly string[],
  { type, start, end }: TrainTokenizerOptions,
): { start?: string; end?: string } {
  const isBert = type === "wordpiece" && start === undefined && end === undefined;
  return isBert && specials.includes("[CLS]") && specials.includes("[SEP]")
    ? { start: "[CLS]", end: "[SEP]" }
    : { start, end };
}

/** The roles that tokens have by their names or by the options. */
function tokenizerConfig(specials: readonly string[], options: TrainTokenizerOptions): JsonObject {
  const named = (...names: readonly (string | undefined)[]): string | undefined =>
    names.find((name) => name !== undefined && specials.includes(name));
  const roles: Record<string, string | undefined> = {
    bos_token: named(options.start, "<s>", "<|endoftext|>"),
    eos_token: named(options.end, "</s>", "<|endoftext|>"),
    unk_token: options.type === "bpe" ? named("<unk>") : named(unknownToken(options)),
    pad_token: named("<pad>", "[PAD]"),
    cls_token: named("[CLS]"),
    sep_token: named("[SEP]"),
    mask_token: named("[MASK]", "<mask>"),
  };
  return {
    tokenizer_class: "PreTrainedTokenizerFast",
    clean_up_tokenization_spaces: false,
    ...Object.fromEntries(Object.entries(roles).filter(([, token]) => token !== undefined)),
  };
}
