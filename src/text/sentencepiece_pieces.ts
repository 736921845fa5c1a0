import type { JsonObject } from "../core/json.ts";
import { byteIds } from "./bpe.ts";
import { badFile } from "./json_fields.ts";
import { type Merge, mergeSymbols } from "./merge_queue.ts";
import type { PieceModel } from "./models.ts";
import { PieceTrie } from "./piece_trie.ts";
import { PIECE, type SentencePieceModel } from "./sentencepiece.ts";
import { escapePattern } from "./patterns.ts";
import { bestPath } from "./unigram.ts";

/** A `model` of the kind `SentencePiece`, in memory alone: the file's own, and the ids where they are not its own (Marian). */
export interface SentencePieceConfig extends JsonObject {
  readonly type: "SentencePiece";
  readonly file: SentencePieceModel;
  readonly vocab?: ReadonlyMap<string, number>;
  readonly unk_id: number;
}

/** A segment of the normalised text: its surface, and its piece where it has one. */
interface Segment {
  readonly text: string;
  readonly id: number;
}

/**
 * SentencePiece's own segmentation, for both kinds of model: control pieces are never made from text, unknown characters next to
 * each other are one token (or their bytes). Source: sentencepiece's unigram_model.cc, bpe_model.cc and sentencepiece_processor.cc.
 */
export function createSentencePiece(config: SentencePieceConfig): PieceModel {
  const { file, vocab } = config;
  const own = new Map<string, number>();
  file.pieces.forEach(({ piece }, id) => {
    if (!own.has(piece)) own.set(piece, id);
  });
  const ids = vocab ?? own;
  const unkId = config.unk_id;
  const idOf = ({ text, id }: Segment): number =>
    vocab ? (vocab.get(id < 0 ? text : (file.pieces[id]?.piece ?? "")) ?? unkId) : id;
  const segment = file.kind === "BPE" ? bpeSegments(file, own) : unigramSegments(file);
  const encode = (text: string): number[] => {
    const out: number[] = [];
    let unknown = "";
    const endUnknown = (): void => {
      if (unknown === "") return;
      const bytes = file.byteFallback ? byteIds(unknown, ids) : undefined;
      if (bytes) out.push(...bytes);
      else out.push(vocab?.get(unknown) ?? unkId);
      unknown = "";
    };
    for (const part of segment(text)) {
      if (part.id < 0) {
        unknown += part.text;
      } else {
        endUnknown();
        out.push(idOf(part));
      }
    }
    endUnknown();
    return out;
  };
  return { encode, pieces: new Map([...ids].map(([piece, id]) => [id, piece])), ids, unkId };
}

function unigramSegments(file: SentencePieceModel): (text: string) => Segment[] {
  const { pieces } = file;
  const trie = new PieceTrie();
  const normal = pieces.filter(({ type }) => type === PIECE.normal).map(({ score }) => score);
  const lowest = normal.reduce((low, score) => Math.min(low, score), Number.MAX_VALUE);
  const highest = normal.reduce((high, score) => Math.max(high, score), -Number.MAX_VALUE);
  const scores = Float64Array.from(pieces, ({ score }) => score);
  const utf8 = new TextEncoder();
  pieces.forEach(({ piece, type }, id) => {
    if (piece === "" || (type !== PIECE.normal && type !== PIECE.userDefined)) return;
    trie.add(piece, id);
    // What the makers defined always wins over what it is made of.
    if (type === PIECE.userDefined) scores[id] = utf8.encode(piece).length * highest - 0.1;
  });
  const unknownScore = Math.fround(lowest - 10);
  return (text) => bestPath(text, { trie, scores, unknownScore, unkId: -1, single: true });
}

function bpeSegments(file: SentencePieceModel, own: ReadonlyMap<string, number>): (text: string) => Segment[] {
  const { pieces } = file;
  const symbols = pieces.filter(({ type }) => type === PIECE.userDefined).map(({ piece }) => piece);
  const longestFirst = symbols.sort((a, b) => b.length - a.length).map(escapePattern);
  const characters = new RegExp([...longestFirst, "[\\s\\S]"].join("|"), "gu");
  const whole = new Set(symbols);
  const find = (left: string, right: string): Merge<string> | undefined => {
    if (whole.size > 0 && (whole.has(left) || whole.has(right))) return undefined;
    const merged = left + right;
    const entry = pieces[own.get(merged) ?? -1];
    if (entry?.type !== PIECE.normal && entry?.type !== PIECE.unused) return undefined;
    return { rank: -entry.score, merged };
  };
  const segmentsOf = (text: string): Segment[] => {
    const id = own.get(text);
    const type = id === undefined ? undefined : pieces[id]?.type;
    if (id === undefined || type === PIECE.unknown) return [{ text, id: -1 }];
    // Pieces that were taken out of use still help to find larger ones; what is left of them is split again.
    if (type === PIECE.unused && [...text].length > 1) return splitUnused(text, own, pieces).flatMap(segmentsOf);
    return [{ text, id }];
  };
  return (text) => mergeSymbols(text.match(characters) ?? [], find).flatMap(segmentsOf);
}

/** The two parts of an unused piece that merge first. */
function splitUnused(
  text: string,
  own: ReadonlyMap<string, number>,
  pieces: SentencePieceModel["pieces"],
): [string, string] {
  let best: { parts: [string, string]; score: number } | undefined;
  const characters = [...text];
  for (let i = 1; i < characters.length; i++) {
    const parts: [string, string] = [characters.slice(0, i).join(""), characters.slice(i).join("")];
    const [left, right] = parts.map((part) => pieces[own.get(part) ?? -1]?.score);
    if (left === undefined || right === undefined) continue;
    const score = Math.min(left, right);
    if (!best || score > best.score) best = { parts, score };
  }
  if (!best) throw badFile("an unused piece must be made of other pieces", JSON.stringify(text));
  return best.parts;
}
