import type { JsonObject } from "../core/json.ts";
import { badFile, unsupportedPart } from "./json_fields.ts";
import { readFields } from "./protobuf.ts";

/** What a piece is for (sentencepiece_model.proto, `SentencePiece.Type`). */
export const PIECE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** A SentencePiece model file, as far as text needs it. */
export interface SentencePieceModel {
  readonly kind: "Unigram" | "BPE";
  /** By id. */
  readonly pieces: readonly { readonly piece: string; readonly score: number; readonly type: number }[];
  readonly unkId: number;
  /** −1 where the model has none. */
  readonly bosId: number;
  readonly eosId: number;
  readonly padId: number;
  readonly byteFallback: boolean;
  /** A `normalizer` of the kind `SentencePiece`. */
  readonly normalizer: JsonObject;
}

const MAX_PIECES = 2 ** 20;
const TEXT = new TextDecoder("utf-8", { ignoreBOM: true });

const UNIGRAM = 1;
const BPE = 2;

/** Reads a `.model` or `.spm` file. Throws `BAD_FILE`, and `UNSUPPORTED` for models of words or characters. */
export function readSentencePiece(bytes: Uint8Array): SentencePieceModel {
  const pieces: { piece: string; score: number; type: number }[] = [];
  const trainer = new Map<number, number>();
  let normalizer: Uint8Array = new Uint8Array(0);
  for (const { number, value } of readFields(bytes)) {
    if (!(value instanceof Uint8Array)) continue;
    if (number === 1) pieces.push(readPiece(value));
    else if (number === 2)
      for (const f of readFields(value)) if (typeof f.value === "number") trainer.set(f.number, f.value);
    if (number === 3) normalizer = value;
    if (pieces.length > MAX_PIECES) throw badFile(`a SentencePiece model has at most ${MAX_PIECES} pieces`, "more");
  }
  const unkId = pieces.findIndex(({ type }) => type === PIECE.unknown);
  if (pieces.length === 0 || unkId < 0)
    throw badFile("a SentencePiece model must have pieces and an unknown one", `${pieces.length}`);
  const kind = trainer.get(3) ?? UNIGRAM;
  if (kind !== UNIGRAM && kind !== BPE) {
    throw unsupportedPart("SentencePiece model", `model_type ${kind}`, ["Unigram", "BPE"]);
  }
  const symbols = pieces.filter(({ type }) => type === PIECE.userDefined).map(({ piece }) => piece);
  // Ids are int32: −1 is written as ten bytes, which come out near 2^64.
  const id = (field: number, usual: number): number => {
    const value = trainer.get(field) ?? usual;
    return value < pieces.length && pieces[value]?.type === PIECE.control ? value : -1;
  };
  return {
    kind: kind === BPE ? "BPE" : "Unigram",
    pieces,
    unkId,
    bosId: id(41, 1),
    eosId: id(42, 2),
    padId: id(43, -1),
    byteFallback: trainer.get(35) === 1,
    normalizer: {
      ...readNormalizer(normalizer),
      user_defined: symbols,
      treat_whitespace_as_suffix: trainer.get(24) === 1,
    },
  };
}

function readPiece(bytes: Uint8Array): { piece: string; score: number; type: number } {
  const out = { piece: "", score: 0, type: PIECE.normal as number };
  for (const { number, value } of readFields(bytes)) {
    if (number === 1 && value instanceof Uint8Array) out.piece = TEXT.decode(value);
    if (number === 2 && typeof value === "number") out.score = value;
    if (number === 3 && typeof value === "number") out.type = value;
  }
  return out;
}

function readNormalizer(bytes: Uint8Array): JsonObject {
  const out: JsonObject = { type: "SentencePiece" };
  for (const { number, value } of readFields(bytes)) {
    if (number === 2 && value instanceof Uint8Array && value.length > 0) out["charsmap"] = value;
    if (number === 3) out["add_dummy_prefix"] = value === 1;
    if (number === 4) out["remove_extra_whitespaces"] = value === 1;
    if (number === 5) out["escape_whitespaces"] = value === 1;
  }
  return out;
}
