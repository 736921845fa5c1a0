import { isObject, type JsonObject } from "../core/json.ts";
import { createBpe } from "./bpe.ts";
import { badFile, describe, isId, stringField, unsupportedPart } from "./json_fields.ts";
import { createSentencePiece, type SentencePieceConfig } from "./sentencepiece_pieces.ts";
import { createUnigram } from "./unigram.ts";

/** The vocabulary of a tokenizer and how a word becomes ids of it. */
export interface PieceModel {
  /** Ids of one word; `undefined` for a character that the vocabulary lacks and that no unknown token stands for. */
  encode(word: string): (number | undefined)[];
  /** Every piece by its id. */
  readonly pieces: ReadonlyMap<number, string>;
  /** Every id by its piece. */
  readonly ids: ReadonlyMap<string, number>;
  readonly unkId: number | undefined;
}

/**
 * The `model` of a tokenizer.json. `hidden` pieces are in the vocabulary and are never made from text.
 * Throws `BAD_FILE`, and `UNSUPPORTED` for a kind that is not known.
 */
export function createModel(config: JsonObject, hidden: ReadonlySet<number>): PieceModel {
  const type = config["type"] ?? kindOf(config);
  switch (type) {
    case "WordPiece":
      return createWordPiece(config, hidden);
    case "BPE":
      return createBpe(config, readVocab(config), hidden);
    case "Unigram":
      return createUnigram(config, hidden);
    case "SentencePiece":
      if (!(config["file"] instanceof Object)) break;
      return createSentencePiece(config as SentencePieceConfig);
  }
  throw unsupportedPart("model", type, ["BPE", "Unigram", "WordPiece"]);
}

/** Older files do not name the kind of their model. */
function kindOf(config: JsonObject): string {
  if (Array.isArray(config["vocab"])) return "Unigram";
  return config["merges"] === undefined ? "WordPiece" : "BPE";
}

function readVocab(config: JsonObject): Map<string, number> {
  const vocab = config["vocab"];
  if (!isObject(vocab)) throw badFile("the vocabulary must map pieces to ids", describe(vocab));
  const ids = new Map<string, number>();
  for (const [piece, id] of Object.entries(vocab)) {
    if (!isId(id)) throw badFile(`the id of ${describe(piece)} must be a whole number`, describe(id));
    ids.set(piece, id);
  }
  return ids;
}

/** The longest piece first (Schuster & Nakajima 2012; BERT's tokenization.py): a word that does not come out whole is unknown. */
function createWordPiece(config: JsonObject, hidden: ReadonlySet<number>): PieceModel {
  const ids = readVocab(config);
  const prefix = stringField(config, "continuing_subword_prefix", "##");
  const maxLength = isId(config["max_input_chars_per_word"]) ? config["max_input_chars_per_word"] : 100;
  const unkId = ids.get(stringField(config, "unk_token", "[UNK]"));
  const longest = [...ids.keys()].reduce((most, piece) => Math.max(most, piece.length), 0);
  const encode = (word: string): (number | undefined)[] => {
    const characters = Array.from(word);
    if (characters.length > maxLength) return [unkId];
    const out: number[] = [];
    for (let start = 0; start < characters.length; ) {
      let end = Math.min(characters.length, start + longest);
      let id: number | undefined;
      for (; end > start; end--) {
        id = ids.get((start > 0 ? prefix : "") + characters.slice(start, end).join(""));
        if (id !== undefined && !hidden.has(id)) break;
        id = undefined;
      }
      if (id === undefined) return [unkId];
      out.push(id);
      start = end;
    }
    return out;
  };
  return { encode, pieces: new Map([...ids].map(([piece, id]) => [id, piece])), ids, unkId };
}
