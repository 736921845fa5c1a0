import { Tokenizer as HubTokenizer } from "@huggingface/tokenizers";
import { HeedError } from "../core/errors.ts";
import { createDetokenizer, type DecodeVocabulary, type Detokenizer, type DetokenizerOptions } from "./detokenizer.ts";

/** How text becomes ids. */
export interface EncodeOptions {
  /** Add what the model expects around a text, such as `<s>`. Default true. */
  addSpecialTokens?: boolean;
  /** Let special tokens that are written in the text become their ids: for rendered chat templates only. Default false. */
  allowSpecial?: boolean;
}

/** Text to ids and back, as the checkpoint's tokenizer.json says. */
export interface Tokenizer {
  /** Ids of a text. Special tokens written in it stay plain text unless `allowSpecial`. */
  encode(text: string, options?: EncodeOptions): number[];
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
}

interface AddedToken {
  id: number;
  content: string;
  special: boolean;
}

type JsonObject = Record<string, unknown>;

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
  checkModelType(tokenizerJson["model"]);
  const config = isObject(tokenizerConfig) ? tokenizerConfig : {};
  const added = readAddedTokens(tokenizerJson["added_tokens"]);
  const specials = added.filter((token) => token.special);
  const plain = createHubTokenizer(withoutSpecials(tokenizerJson, specials), config);
  let exact: HubTokenizer | undefined;

  const vocabulary = createVocabulary(plain, added, tokenizerJson["decoder"]);
  const addedIds = new Map(added.map(({ content, id }) => [content, id]));
  const tokenToId = (token: string): number | undefined => addedIds.get(token) ?? plain.token_to_id(token);
  const { prefix, suffix } = surroundingIds(plain, config, tokenToId);

  const encodeText = (text: string, allowSpecial: boolean): number[] => {
    if (!allowSpecial || !specials.some(({ content }) => text.includes(content))) {
      return guard("encode", () => plain.encode(text, { add_special_tokens: false }).ids);
    }
    exact ??= createHubTokenizer(tokenizerJson, config);
    const hub = exact;
    return guard("encode", () => hub.encode(text, { add_special_tokens: false }).ids);
  };

  return {
    encode(text, { addSpecialTokens = true, allowSpecial = false } = {}) {
      const ids = encodeText(text, allowSpecial);
      // The library gives undefined for a piece that it cannot name.
      const unknown = ids.findIndex((id) => !isId(id));
      if (unknown >= 0) {
        throw new HeedError(
          "UNSUPPORTED",
          "tokenizer: each character must be in the vocabulary or have an unknown token; " +
            `got one at token ${unknown} that has neither. Spell it otherwise or use another tokenizer.`,
        );
      }
      return addSpecialTokens ? [...prefix, ...ids, ...suffix] : ids;
    },
    decode(ids, { skipSpecial = true } = {}) {
      const detokenizer = createDetokenizer(vocabulary, { skipSpecial });
      return ids.map((id) => detokenizer.push(id)).join("") + detokenizer.flush();
    },
    detokenizer: (options) => createDetokenizer(vocabulary, options),
    idToToken: vocabulary.idToToken,
    tokenToId,
    isSpecial: vocabulary.isSpecial,
    vocabSize: added.reduce((size, { id }) => Math.max(size, id + 1), plain.model?.vocab.length ?? 0),
    bosId: namedTokenId(config["bos_token"], tokenToId),
    eosId: namedTokenId(config["eos_token"], tokenToId),
  };
}

/** Named models must be ones that the library knows: it would take any other for a list of words. */
function checkModelType(model: JsonObject): void {
  const type = model["type"];
  if (type === undefined || type === "BPE" || type === "Unigram" || type === "WordPiece") return;
  throw new HeedError("UNSUPPORTED", `tokenizer: the model must be BPE, Unigram or WordPiece; got ${describe(type)}.`);
}

function createHubTokenizer(json: JsonObject, config: JsonObject): HubTokenizer {
  const complete = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, added_tokens: [] };
  // Cleaning up spaces would change the text that the ids stand for.
  const exactText = { ...config, clean_up_tokenization_spaces: false };
  return guard("be read", () => new HubTokenizer({ ...complete, ...json }, exactText));
}

/** Runs the library, which takes its files as they come: what it throws says that one of them is no tokenizer. */
function guard<T>(doing: string, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    throw badFile(`tokenizer.json must hold a tokenizer that can ${doing}`, String(cause), cause);
  }
}

/**
 * The same tokenizer, unable to make a special id from text: the special tokens are neither split off before the model sees
 * the text nor left in the vocabulary, where a unigram model or a whole-word match would find them. The unknown token stays.
 */
function withoutSpecials(json: JsonObject, specials: readonly AddedToken[]): JsonObject {
  const model = json["model"] as JsonObject;
  const ids = new Set(specials.map(({ id }) => id));
  const isKept = (content: string, id: unknown): boolean => !ids.has(id as number) || content === model["unk_token"];
  return {
    ...json,
    model: { ...model, vocab: withoutPieces(model["vocab"], isKept, model["unk_id"]) },
    added_tokens:
      (json["added_tokens"] as JsonObject[] | undefined)?.filter((token) => token["special"] !== true) ?? [],
  };
}

function withoutPieces(vocab: unknown, isKept: (content: string, id: unknown) => boolean, unkId: unknown): unknown {
  if (Array.isArray(vocab)) {
    // Unigram: ids are places in the list, so a piece is made unmatchable instead of removed.
    return vocab.map((entry: unknown, id) =>
      Array.isArray(entry) && id !== unkId && !isKept(String(entry[0]), id) ? [`\uffff${id}\uffff`, entry[1]] : entry,
    );
  }
  if (!isObject(vocab)) return vocab;
  const entries = Object.entries(vocab);
  return entries.every(([content, id]) => isKept(content, id))
    ? vocab
    : Object.fromEntries(entries.filter(([content, id]) => isKept(content, id)));
}

function createVocabulary(hub: HubTokenizer, added: readonly AddedToken[], decoder: unknown): DecodeVocabulary {
  const addedById = new Map(added.map((token) => [token.id, token]));
  return {
    idToToken(id) {
      const token: unknown = addedById.get(id)?.content ?? hub.id_to_token(id);
      return typeof token === "string" ? token : undefined;
    },
    isSpecial: (id) => addedById.get(id)?.special === true,
    isAdded: (id) => addedById.has(id),
    decoder,
  };
}

/**
 * The ids that belong before and after a text. `add_bos_token` and `add_eos_token` of tokenizer_config.json decide where one of
 * them is given, as in `transformers` 5; else the post-processor does, run on a stand-in that no vocabulary holds.
 */
function surroundingIds(
  hub: HubTokenizer,
  config: JsonObject,
  tokenToId: (token: string) => number | undefined,
): { prefix: number[]; suffix: number[] } {
  if (typeof config["add_bos_token"] === "boolean" || typeof config["add_eos_token"] === "boolean") {
    const idIf = (wanted: unknown, name: string): number[] => {
      const id = wanted === true ? namedTokenId(config[name], tokenToId) : undefined;
      return id === undefined ? [] : [id];
    };
    return { prefix: idIf(config["add_bos_token"], "bos_token"), suffix: idIf(config["add_eos_token"], "eos_token") };
  }
  const standIn = "\uffff";
  const tokens = guard("surround a text", () => hub.post_processor?.([standIn], null, true).tokens) ?? [standIn];
  const at = tokens.indexOf(standIn);
  const idsOf = (part: string[]): number[] =>
    part.map((token) => {
      const id = tokenToId(token);
      if (id === undefined)
        throw badFile("the post-processor must name tokens of the vocabulary", JSON.stringify(token));
      return id;
    });
  return { prefix: idsOf(tokens.slice(0, at)), suffix: idsOf(tokens.slice(at + 1)) };
}

function readAddedTokens(value: unknown): AddedToken[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw badFile("added_tokens must be a list", describe(value));
  return value.map((token: unknown) => {
    if (!isObject(token) || typeof token["content"] !== "string" || !isId(token["id"])) {
      throw badFile("each added token must have an integer id and a content", describe(token));
    }
    return { id: token["id"], content: token["content"], special: token["special"] === true };
  });
}

/** The id of a token that tokenizer_config.json names as a string or as an object with a content. */
function namedTokenId(value: unknown, tokenToId: (token: string) => number | undefined): number | undefined {
  const content = isObject(value) ? value["content"] : value;
  return typeof content === "string" ? tokenToId(content) : undefined;
}

/** Ids are u32 on the GPU. */
function isId(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 2 ** 32;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function describe(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).slice(0, 80);
}

function badFile(rule: string, got: string, cause?: unknown): HeedError {
  return new HeedError("BAD_FILE", `tokenizer: ${rule}; got ${got}. Check that the file is complete.`, { cause });
}
