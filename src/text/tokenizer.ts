import { HeedError, isHeedError } from "../core/errors.ts";
import { isObject, type JsonObject } from "../core/json.ts";
import { type AddedToken, createSplitter, readAddedTokens } from "./added_tokens.ts";
import { byteLevelBytes } from "./byte_level.ts";
import { createDetokenizer, type DecodeVocabulary, type Detokenizer, type DetokenizerOptions } from "./detokenizer.ts";
import { badFile, describe } from "./json_fields.ts";
import { createModel, type PieceModel } from "./models.ts";
import { createNormalizer, type Normalizer } from "./normalizers.ts";
import { alignTokens, type Offset } from "./offsets.ts";
import { type Frame, frameOf, type FrameItem, readFrame } from "./post_processor.ts";
import { createPreTokenizer } from "./pre_tokenizers.ts";

/** How text becomes ids. */
export interface EncodeOptions {
  /** Add what the model expects around a text, such as `<s>`. Default true. */
  addSpecialTokens?: boolean;
  /** Let special tokens that are written in the text become their ids: for rendered chat templates only. Default false. */
  allowSpecial?: boolean;
}

/** Ids of a text or of two, with what the model expects around them. */
export interface FramedIds {
  readonly ids: number[];
  /** Which text an id belongs to, as the model is told it (BERT's segments). */
  readonly typeIds: number[];
  /** Where the first text's ids begin, and the second's. */
  readonly starts: readonly [first: number, second: number];
}

/** Text to ids and back, as the checkpoint's tokenizer says. */
export interface Tokenizer {
  /** Ids of a text. Special tokens written in it stay plain text unless `allowSpecial`. */
  encode(text: string, options?: EncodeOptions): number[];
  /** Ids of two texts together, such as a question and its context. */
  encodePair(first: string, second: string, options?: Pick<EncodeOptions, "allowSpecial">): FramedIds;
  /** What the model expects around ids of one text, or of two. */
  framePair(first: readonly number[], second?: readonly number[]): FramedIds;
  /** Ids of a text, nothing around them, each with its place in the text. */
  encodeWithOffsets(
    text: string,
    options?: Pick<EncodeOptions, "allowSpecial">,
  ): { readonly ids: number[]; readonly offsets: Offset[] };
  /** Text of ids, without special tokens unless `skipSpecial: false`; ids that the vocabulary lacks add nothing. */
  decode(ids: readonly number[], options?: { skipSpecial?: boolean }): string;
  /** A streaming detokenizer; see {@link createDetokenizer}. */
  detokenizer(options?: DetokenizerOptions): Detokenizer;
  /** The raw piece of an id (`▁the`, `Ġthe`, `<0x0A>`), for display; undefined where there is none. */
  idToToken(id: number): string | undefined;
  /** The id of a raw piece or special token. */
  tokenToId(token: string): number | undefined;
  isSpecial(id: number): boolean;
  /** Largest id plus one; the model's own vocabulary may be padded beyond it. */
  readonly vocabSize: number;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly padId: number | undefined;
  readonly unkId: number | undefined;
  readonly maskId: number | undefined;
  readonly clsId: number | undefined;
  readonly sepId: number | undefined;
}

/**
 * Makes a tokenizer from the parsed tokenizer.json and tokenizer_config.json of a checkpoint (the second may be undefined).
 * Throws `BAD_FILE` if they cannot be a tokenizer, `UNSUPPORTED` if they are one of another kind.
 *
 * ```ts
 * const tokenizer = loadTokenizer(JSON.parse(tokenizerJson), JSON.parse(tokenizerConfig));
 * tokenizer.decode(tokenizer.encode("Once upon a time"));
 * ```
 */
export function loadTokenizer(tokenizerJson: unknown, tokenizerConfig?: unknown): Tokenizer {
  if (!isObject(tokenizerJson) || !isObject(tokenizerJson["model"])) {
    throw badFile("tokenizer.json must be an object with a model", describe(tokenizerJson));
  }
  const config = isObject(tokenizerConfig) ? tokenizerConfig : {};
  return guard("be read", () => createTokenizer(tokenizerJson, config));
}

/** What a broken file makes the code below throw says that it is no tokenizer. */
function guard<T>(doing: string, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    if (isHeedError(cause)) throw cause;
    throw badFile(`tokenizer.json must hold a tokenizer that can ${doing}`, String(cause), cause);
  }
}

function createTokenizer(json: JsonObject, config: JsonObject): Tokenizer {
  const added = readAddedTokens(json["added_tokens"]);
  const normalize = createNormalizer((json["normalizer"] ?? null) as JsonObject | null);
  const { plain, exact } = createEncoders(json, added, normalize);
  const { model } = plain;
  const addedIds = new Map(added.map(({ content, id }) => [content, id]));
  const tokenToId = (token: string): number | undefined => addedIds.get(token) ?? model.ids.get(token);
  const vocabulary = createVocabulary(model, added, json["decoder"] ?? null);
  const frame = chooseFrame(json, config, tokenToId);
  const named = (name: string, ...usual: string[]): number | undefined =>
    namedTokenId(config[name], tokenToId) ?? usual.map(tokenToId).find((id) => id !== undefined);

  const encodeText = (text: string, allowSpecial: boolean): number[] => {
    const special = allowSpecial && added.some((token) => token.special && text.includes(token.content));
    return guard("encode", () => checkKnown((special ? exact() : plain).encode(text)));
  };
  return {
    encode(text, { addSpecialTokens = true, allowSpecial = false } = {}) {
      const ids = encodeText(text, allowSpecial);
      return addSpecialTokens ? fill(frame.single, ids, []).ids : ids;
    },
    encodePair: (first, second, { allowSpecial = false } = {}) =>
      fill(frame.pair, encodeText(first, allowSpecial), encodeText(second, allowSpecial)),
    framePair: (first, second) => fill(second ? frame.pair : frame.single, first, second ?? []),
    encodeWithOffsets(text, { allowSpecial = false } = {}) {
      const ids = encodeText(text, allowSpecial);
      const bytesOf = byteReader(json, vocabulary, model.unkId);
      return { ids, offsets: alignTokens(text, ids, { normalize, bytesOf }) };
    },
    decode(ids, { skipSpecial = true } = {}) {
      const detokenizer = createDetokenizer(vocabulary, { skipSpecial });
      return ids.map((id) => detokenizer.push(id)).join("") + detokenizer.flush();
    },
    detokenizer: (options) => createDetokenizer(vocabulary, options),
    idToToken: vocabulary.idToToken,
    tokenToId,
    isSpecial: vocabulary.isSpecial,
    vocabSize: [...model.pieces.keys(), ...added.map(({ id }) => id)].reduce((size, id) => Math.max(size, id + 1), 0),
    bosId: namedTokenId(config["bos_token"], tokenToId),
    eosId: namedTokenId(config["eos_token"], tokenToId),
    padId: named("pad_token", "<pad>", "[PAD]"),
    unkId: named("unk_token", "<unk>", "[UNK]"),
    maskId: named("mask_token", "<mask>", "[MASK]"),
    clsId: named("cls_token", "[CLS]", "<s>"),
    sepId: named("sep_token", "[SEP]", "</s>"),
  };
}

/** A way from text to ids: sections, each normalised, split into words, and those into pieces. */
interface Encoder {
  readonly model: PieceModel;
  encode(text: string): (number | undefined)[];
}

/**
 * `plain` cannot make a special id from text: special tokens are neither split off before the model sees the text nor left
 * among the pieces that it may find. The unknown token stays. `exact` can, and is made when it is first needed.
 */
function createEncoders(
  json: JsonObject,
  added: readonly AddedToken[],
  normalize: Normalizer,
): { plain: Encoder; exact: () => Encoder } {
  const config = json["model"] as JsonObject;
  const split = createPreTokenizer((json["pre_tokenizer"] ?? null) as JsonObject | null);
  const isUnknown = ({ id, content }: AddedToken): boolean =>
    content === config["unk_token"] || id === config["unk_id"];
  const hidden = new Set(added.filter((token) => token.special && !isUnknown(token)).map(({ id }) => id));
  const make = (tokens: readonly AddedToken[], hiddenIds: ReadonlySet<number>): Encoder => {
    const model = createModel(config, hiddenIds);
    const bySource = createSplitter(tokens.filter((token) => !token.normalized));
    const byNormalized = createSplitter(
      tokens.filter((token) => token.normalized).map((token) => ({ ...token, content: normalize(token.content) })),
    );
    const encode = (text: string): (number | undefined)[] =>
      bySource(text).flatMap((section, i) => {
        if ("token" in section) return [section.token.id];
        return byNormalized(normalize(section.text)).flatMap((part, j) =>
          "token" in part ? [part.token.id] : split(part.text, i + j === 0).flatMap((word) => model.encode(word)),
        );
      });
    return { model, encode };
  };
  let exact: Encoder | undefined;
  const plain = make(
    added.filter((token) => !token.special),
    hidden,
  );
  return { plain, exact: () => (exact ??= make(added, new Set())) };
}

function checkKnown(ids: (number | undefined)[]): number[] {
  const unknown = ids.indexOf(undefined);
  if (unknown < 0) return ids as number[];
  throw new HeedError(
    "UNSUPPORTED",
    "tokenizer: each character must be in the vocabulary or have an unknown token; " +
      `got one at token ${unknown} that has neither. Spell it otherwise or use another tokenizer.`,
  );
}

function createVocabulary(model: PieceModel, added: readonly AddedToken[], decoder: unknown): DecodeVocabulary {
  const addedById = new Map(added.map((token) => [token.id, token]));
  return {
    idToToken: (id) => addedById.get(id)?.content ?? model.pieces.get(id),
    isSpecial: (id) => addedById.get(id)?.special === true,
    isAdded: (id) => addedById.has(id),
    decoder,
  };
}

/** The bytes that a token stands for in a text, by the kind of its pieces. */
function byteReader(
  json: JsonObject,
  vocabulary: DecodeVocabulary,
  unkId: number | undefined,
): (id: number) => Uint8Array | undefined {
  const utf8 = new TextEncoder();
  const decoder = JSON.stringify(json["decoder"] ?? null);
  const isByteLevel = decoder.includes('"ByteLevel"');
  const prefix = decoder.includes('"WordPiece"') ? "##" : "";
  return (id) => {
    const piece = vocabulary.idToToken(id) ?? "";
    if (id === unkId) return undefined;
    if (vocabulary.isAdded(id)) return utf8.encode(piece);
    if (isByteLevel) return Uint8Array.from(byteLevelBytes(piece));
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(piece)?.[1];
    if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
    const text = prefix !== "" && piece.startsWith(prefix) ? piece.slice(prefix.length) : piece;
    return utf8.encode(text.replaceAll("▁", " "));
  };
}

/**
 * The ids that belong around a text. `add_bos_token` and `add_eos_token` of tokenizer_config.json decide where one of
 * them is given, as in `transformers` 5; else the post-processor does.
 */
function chooseFrame(json: JsonObject, config: JsonObject, tokenToId: (token: string) => number | undefined): Frame {
  if (typeof config["add_bos_token"] !== "boolean" && typeof config["add_eos_token"] !== "boolean") {
    return readFrame((json["post_processor"] ?? null) as JsonObject | null, tokenToId);
  }
  const idIf = (wanted: unknown, name: string): number[] => {
    const id = wanted === true ? namedTokenId(config[name], tokenToId) : undefined;
    return id === undefined ? [] : [id];
  };
  const before = idIf(config["add_bos_token"], "bos_token");
  return frameOf(before, idIf(config["add_eos_token"], "eos_token"), before, 1);
}

function fill(items: readonly FrameItem[], first: readonly number[], second: readonly number[]): FramedIds {
  const ids: number[] = [];
  const typeIds: number[] = [];
  const starts: [number, number] = [0, 0];
  for (const { part, typeId } of items) {
    if (part === "first") starts[0] = ids.length;
    if (part === "second") starts[1] = ids.length;
    for (const id of part === "first" ? first : part === "second" ? second : part) {
      ids.push(id);
      typeIds.push(typeId);
    }
  }
  return { ids, typeIds, starts };
}

/** The id of a token that tokenizer_config.json names as a string or as an object with a content. */
function namedTokenId(value: unknown, tokenToId: (token: string) => number | undefined): number | undefined {
  const content = isObject(value) ? value["content"] : value;
  return typeof content === "string" ? tokenToId(content) : undefined;
}
