import { PieceTrie } from "../../text/piece_trie.ts";
import { bestPath } from "../../text/unigram.ts";

/** A piece and the logarithm of its probability. */
export type ScoredPiece = readonly [piece: string, score: number];

/** How many pieces a unigram model is to have. */
export interface LearnUnigramOptions {
  /** Pieces in all, single characters included. */
  readonly size: number;
  /** Longest piece, in characters. Default 16. */
  readonly longest?: number;
}

const EM_ROUNDS = 2;
/** Of the pieces so many stay when the least useful are dropped. */
const KEPT_SHARE = 0.75;
const SEEDS_PER_PIECE = 10;
const LEAST_SEEDS = 20_000;

/**
 * A unigram language model of pieces (Kudo 2018, §3.2): begins with the frequent substrings of the counted words, then in turns
 * fits their probabilities by expectation and maximisation over all segmentations and drops the quarter whose loss costs the least
 * likelihood, until `size` are left. Every single character stays. Best scores first; the order is the same for the same words.
 */
export function learnUnigram(counts: ReadonlyMap<string, number>, options: LearnUnigramOptions): ScoredPiece[] {
  const { size, longest = 16 } = options;
  const words = [...counts];
  const characters = countCharacters(words);
  let pieces = seedPieces(words, characters, { longest, most: Math.max(LEAST_SEEDS, SEEDS_PER_PIECE * size) });
  const wanted = Math.max(size, characters.size);
  for (;;) {
    for (let round = 0; round < EM_ROUNDS; round++) pieces = maximise(pieces, expect(pieces, words), characters);
    // A tenth more, from which the last choice is by score alone.
    if (pieces.length <= Math.ceil(1.1 * wanted)) break;
    const target = Math.max(Math.ceil(1.1 * wanted), Math.floor(KEPT_SHARE * pieces.length));
    const pruned = prune(pieces, words, characters, target);
    if (pruned.length === pieces.length) break;
    pieces = pruned;
  }
  return choose(pieces, characters, wanted);
}

function countCharacters(words: readonly (readonly [string, number])[]): Map<string, number> {
  const frequency = new Map<string, number>();
  for (const [word, count] of words) for (const c of word) frequency.set(c, (frequency.get(c) ?? 0) + count);
  return frequency;
}

/** All characters, and the substrings that cover most: found by length, since no substring is more frequent than its parts. */
function seedPieces(
  words: readonly (readonly [string, number])[],
  characters: ReadonlyMap<string, number>,
  { longest, most }: { readonly longest: number; readonly most: number },
): ScoredPiece[] {
  const split = words.map(([word, count]) => ({ symbols: [...word], count }));
  const found: [string, number][] = [];
  let shorter: ReadonlyMap<string, number> = characters;
  for (let length = 2; length <= longest && shorter.size > 0; length++) {
    const frequency = new Map<string, number>();
    for (const { symbols, count } of split) {
      for (let i = 0; i + length <= symbols.length; i++) {
        const head = symbols.slice(i, i + length - 1).join("");
        if ((shorter.get(head) ?? 0) < 2) continue;
        const piece = head + (symbols[i + length - 1] ?? "");
        frequency.set(piece, (frequency.get(piece) ?? 0) + count);
      }
    }
    for (const [piece, count] of frequency) if (count >= 2) found.push([piece, count * length]);
    shorter = frequency;
  }
  found.sort(byScore);
  const all = [...characters, ...found.slice(0, most)];
  const total = Math.log(all.reduce((sum, [, count]) => sum + count, 0));
  return all.map(([piece, count]): ScoredPiece => [piece, Math.log(count) - total]);
}

/** The larger number first, then by text, so that ties are always cut alike. */
function byScore([a, m]: ScoredPiece, [b, n]: ScoredPiece): number {
  return n - m || (a < b ? -1 : a > b ? 1 : 0);
}

function trieOf(pieces: readonly ScoredPiece[]): PieceTrie {
  const trie = new PieceTrie();
  pieces.forEach(([piece], id) => {
    trie.add(piece, id);
  });
  return trie;
}

/** How often each piece is expected over all segmentations of all words, weighted by their probability. */
function expect(pieces: readonly ScoredPiece[], words: readonly (readonly [string, number])[]): Float64Array {
  const trie = trieOf(pieces);
  const expected = new Float64Array(pieces.length);
  for (const [word, count] of words) {
    const spans = spansOf(trie, word);
    const forward = new Float64Array(word.length + 1).fill(Number.NEGATIVE_INFINITY);
    const backward = new Float64Array(word.length + 1).fill(Number.NEGATIVE_INFINITY);
    forward[0] = 0;
    backward[word.length] = 0;
    const scoreOf = (id: number): number => (pieces[id] as ScoredPiece)[1];
    for (const { start, end, id } of spans) {
      forward[end] = logSum(forward[end] as number, (forward[start] as number) + scoreOf(id));
    }
    for (let i = spans.length - 1; i >= 0; i--) {
      const { start, end, id } = spans[i] as Span;
      backward[start] = logSum(backward[start] as number, (backward[end] as number) + scoreOf(id));
    }
    const whole = forward[word.length] as number;
    if (whole === Number.NEGATIVE_INFINITY) continue;
    for (const { start, end, id } of spans) {
      const path = (forward[start] as number) + scoreOf(id) + (backward[end] as number) - whole;
      expected[id] = (expected[id] as number) + count * Math.exp(path);
    }
  }
  return expected;
}

interface Span {
  readonly start: number;
  readonly end: number;
  readonly id: number;
}

/** Every piece at every place of a word, by where it begins. */
function spansOf(trie: PieceTrie, word: string): Span[] {
  const spans: Span[] = [];
  for (let start = 0; start < word.length; start++) {
    trie.prefixes(word, start, (end, id) => {
      spans.push({ start, end, id });
    });
  }
  return spans;
}

function logSum(a: number, b: number): number {
  const high = Math.max(a, b);
  return high === Number.NEGATIVE_INFINITY ? high : high + Math.log1p(Math.exp(Math.min(a, b) - high));
}

/** New scores from expected counts, under a Dirichlet prior that favours few pieces; what is hardly used goes. */
function maximise(
  pieces: readonly ScoredPiece[],
  expected: Float64Array,
  characters: ReadonlyMap<string, number>,
): ScoredPiece[] {
  const kept = pieces
    .map(([piece], id) => ({ piece, count: expected[id] as number }))
    .filter(({ piece, count }) => count >= 0.5 || characters.has(piece))
    .map(({ piece, count }) => ({ piece, count: Math.max(count, 0.5) }));
  const total = digamma(kept.reduce((sum, { count }) => sum + count, 0));
  return kept.map(({ piece, count }): ScoredPiece => [piece, digamma(count) - total]);
}

/** ψ(x), by its recurrence and asymptotic series (Abramowitz & Stegun 6.3.5, 6.3.18). */
function digamma(x: number): number {
  let shift = 0;
  let at = x;
  for (; at < 7; at++) shift -= 1 / at;
  const square = 1 / (at * at);
  return shift + Math.log(at) - 0.5 / at - square * (1 / 12 - square * (1 / 120 - square / 252));
}

/** Keeps the `target` pieces whose removal would cost the most likelihood, and all characters. */
function prune(
  pieces: readonly ScoredPiece[],
  words: readonly (readonly [string, number])[],
  characters: ReadonlyMap<string, number>,
  target: number,
): ScoredPiece[] {
  const scores = Float64Array.from(pieces, ([, score]) => score);
  const scoring = { trie: trieOf(pieces), scores, unknownScore: -1e9, unkId: -1 };
  const used = new Float64Array(pieces.length);
  let total = 0;
  for (const [word, count] of words) {
    for (const { id } of bestPath(word, scoring)) {
      if (id < 0) continue;
      used[id] = (used[id] as number) + count;
      total += count;
    }
  }
  const losses = pieces.map(([piece], id) => ({
    id,
    loss: characters.has(piece)
      ? Number.POSITIVE_INFINITY
      : lossWithout(pieces, { id, used, total, trie: scoring.trie, scores }),
  }));
  losses.sort((a, b) => (a.loss === b.loss ? a.id - b.id : b.loss - a.loss));
  return losses.slice(0, Math.max(target, characters.size)).map(({ id }) => pieces[id] as ScoredPiece);
}

/** How much likelihood goes with a piece whose uses fall to its best other segmentation (Kudo 2018, §3.2; as SentencePiece estimates it). */
function lossWithout(
  pieces: readonly ScoredPiece[],
  parts: {
    readonly id: number;
    readonly used: Float64Array;
    readonly total: number;
    readonly trie: PieceTrie;
    readonly scores: Float64Array;
  },
): number {
  const { id, used, total, trie, scores } = parts;
  const count = used[id] as number;
  if (count === 0) return 0;
  const own = scores[id] as number;
  scores[id] = -1e6;
  const other = bestPath((pieces[id] as ScoredPiece)[0], { trie, scores, unknownScore: -1e9, unkId: -1 });
  scores[id] = own;
  const logTotal = Math.log(total);
  const after = Math.log(total + count * (other.length - 1));
  const otherScore = other.reduce((sum, part) => sum + Math.log((used[part.id] ?? 0) + count) - after, 0);
  return (count / total) * (Math.log(count) - logTotal - otherScore);
}

/** The characters and the likeliest other pieces, so many in all, best first. */
function choose(pieces: readonly ScoredPiece[], characters: ReadonlyMap<string, number>, size: number): ScoredPiece[] {
  const single = pieces.filter(([piece]) => characters.has(piece));
  const longer = pieces.filter(([piece]) => !characters.has(piece)).sort(byScore);
  const chosen = [...single, ...longer.slice(0, Math.max(0, size - single.length))];
  // So few digits that every JSON reader makes the same number of them, and ties stay ties.
  return chosen.map(([piece, score]): ScoredPiece => [piece, Number(score.toFixed(10))]).sort(byScore);
}
