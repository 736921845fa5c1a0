import type { JsonObject } from "../core/json.ts";
import { byteIds } from "./bpe.ts";
import { badFile, describe, flagField, isId } from "./json_fields.ts";
import type { PieceModel } from "./models.ts";
import { PieceTrie } from "./piece_trie.ts";

/** An unknown character costs this much more than the least likely piece (sentencepiece/unigram_model.cc). */
const UNKNOWN_PENALTY = 10;

/**
 * The likeliest pieces of a word (Kudo 2018), by one pass over its characters that keeps the best way to each place. Unknown
 * characters next to each other are one token. Throws `BAD_FILE`.
 */
export function createUnigram(config: JsonObject, hidden: ReadonlySet<number>): PieceModel {
  const vocab = readScores(config);
  const ids = new Map<string, number>();
  const pieces = new Map<number, string>();
  const trie = new PieceTrie();
  vocab.forEach(([piece], id) => {
    if (!ids.has(piece)) ids.set(piece, id);
    pieces.set(id, piece);
    if (piece !== "" && !hidden.has(id)) trie.add(piece, id);
  });
  const given = config["unk_id"];
  const unkId = isId(given) && given < vocab.length ? given : undefined;
  const fallback = flagField(config, "byte_fallback");
  const lowest = vocab.reduce((low, [, score]) => Math.min(low, score), 0);
  const scores = Float64Array.from(vocab, ([, score]) => score);
  const unknownScore = lowest - UNKNOWN_PENALTY;

  const encode = (word: string): (number | undefined)[] => {
    const out: (number | undefined)[] = [];
    let unknown = "";
    const endUnknown = (): void => {
      if (unknown === "") return;
      const bytes = fallback ? byteIds(unknown, ids) : undefined;
      if (bytes) out.push(...bytes);
      else out.push(unkId);
      unknown = "";
    };
    for (const { text, id } of bestPath(word, { trie, scores, unknownScore, unkId: unkId ?? -1 })) {
      if (id === (unkId ?? -1)) {
        unknown += text;
      } else {
        endUnknown();
        out.push(id);
      }
    }
    endUnknown();
    return out;
  };
  return { encode, pieces, ids, unkId };
}

function readScores(config: JsonObject): [string, number][] {
  const vocab = config["vocab"];
  if (!Array.isArray(vocab)) throw badFile("the vocabulary of a Unigram model must be a list", describe(vocab));
  for (const entry of vocab as unknown[]) {
    const [piece, score] = Array.isArray(entry) ? (entry as unknown[]) : [];
    if (typeof piece !== "string" || typeof score !== "number") {
      throw badFile("a Unigram model's entry must be a piece and its score", describe(entry));
    }
  }
  return vocab as [string, number][];
}

/** What {@link bestPath} searches with. */
export interface PathScores {
  readonly trie: PieceTrie;
  readonly scores: Float64Array;
  readonly unknownScore: number;
  /** Stands for a character that no piece begins with. */
  readonly unkId: number;
  /** Rounds sums as SentencePiece does, which adds in f32. */
  readonly single?: boolean;
}

/** The pieces of the best segmentation, in order; of equally good ones, that which ends in the piece found first. */
export function bestPath(word: string, scoring: PathScores): { text: string; id: number }[] {
  const { trie, scores, unknownScore, unkId, single } = scoring;
  const round = single ? Math.fround : (value: number) => value;
  const from = new Int32Array(word.length + 1).fill(-1);
  const best = new Float64Array(word.length + 1);
  const chosen = new Int32Array(word.length + 1);
  const offer = (start: number, end: number, id: number, score: number): void => {
    const total = round(score + (best[start] as number));
    if ((from[end] as number) >= 0 && total <= (best[end] as number)) return;
    from[end] = start;
    best[end] = total;
    chosen[end] = id;
  };
  for (let start = 0; start < word.length; ) {
    const next = start + ((word.codePointAt(start) as number) > 0xffff ? 2 : 1);
    let covered = false;
    trie.prefixes(word, start, (end, id) => {
      covered ||= end === next;
      offer(start, end, id, scores[id] as number);
    });
    if (!covered) offer(start, next, unkId, unknownScore);
    start = next;
  }
  const path: { text: string; id: number }[] = [];
  for (let end = word.length; end > 0; end = from[end] as number) {
    path.push({ text: word.slice(from[end], end), id: chosen[end] as number });
  }
  return path.reverse();
}
