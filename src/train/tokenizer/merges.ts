import { PairQueue } from "./pair_queue.ts";

/** What pieces are learned from, and how many. */
export interface LearnMergesOptions {
  /** Pieces in all, single characters included. */
  readonly size: number;
  /** Single characters that are pieces even where no word has them. */
  readonly alphabet?: readonly string[];
  /** A pair that is rarer is not joined. Default 2. */
  readonly minFrequency?: number;
  /** Stands before a character that is not its word's first, as WordPiece writes it. Default empty. */
  readonly continuing?: string;
}

/** Pieces in the order of their ids, and the pairs that make them in the order in which they are joined. */
export interface LearnedMerges {
  readonly pieces: readonly string[];
  readonly merges: readonly (readonly [string, string])[];
}

/** One distinct word: its symbols as ids, and how often it occurs. */
interface Word {
  symbols: number[];
  readonly count: number;
}

/**
 * Byte pair encoding (Sennrich et al. 2016, Alg. 1) on counted words: joins the most frequent pair of neighbouring symbols until
 * there are `size` pieces or no pair is frequent enough. Of equally frequent pairs the one with the smaller ids goes first, as in the
 * Hub's `tokenizers`, so that both learn the same merges. Characters get their ids by code point.
 */
export function learnMerges(counts: ReadonlyMap<string, number>, options: LearnMergesOptions): LearnedMerges {
  const { size, alphabet = [], minFrequency = 2, continuing = "" } = options;
  const characters = chooseCharacters(counts, alphabet, continuing === "" ? size : Math.floor(size / 2));
  const ids = new Map<string, number>();
  const pieces: string[] = [];
  const idOf = (piece: string): number => {
    const known = ids.get(piece);
    if (known !== undefined) return known;
    ids.set(piece, pieces.length);
    return pieces.push(piece) - 1;
  };
  for (const character of characters) idOf(character);
  if (continuing !== "") for (const character of continued(counts, characters)) idOf(continuing + character);

  const words = splitWords(counts, ids, continuing);
  const queue = new PairQueue();
  words.forEach((word, w) => {
    for (let i = 0; i + 1 < word.symbols.length; i++) {
      queue.add(word.symbols[i] as number, word.symbols[i + 1] as number, word.count, w);
    }
  });
  queue.settle();

  const merges: (readonly [string, string])[] = [];
  while (pieces.length < size) {
    const best = queue.take();
    if (!best || best.count < Math.max(1, minFrequency)) break;
    const [left, right] = [pieces[best.left] as string, pieces[best.right] as string];
    merges.push([left, right]);
    const joined = idOf(left + right.slice(right.startsWith(continuing) ? continuing.length : 0));
    for (const w of best.words) joinInWord(words[w] as Word, w, { left: best.left, right: best.right, joined }, queue);
    queue.settle();
  }
  return { pieces, merges };
}

/** The given alphabet and what the words have, the rarest left out where there is no room, by code point. */
function chooseCharacters(counts: ReadonlyMap<string, number>, alphabet: readonly string[], room: number): string[] {
  const frequency = new Map<string, number>(alphabet.map((c) => [c, Number.POSITIVE_INFINITY]));
  for (const [word, count] of counts) {
    for (const character of word) frequency.set(character, (frequency.get(character) ?? 0) + count);
  }
  const byRank = [...frequency].sort(([a, m], [b, n]) => n - m || codePoint(a) - codePoint(b) || 0);
  return byRank
    .slice(0, room)
    .map(([character]) => character)
    .sort((a, b) => codePoint(a) - codePoint(b));
}

/** Those of the characters that stand behind another in some word, in the same order. */
function continued(counts: ReadonlyMap<string, number>, characters: readonly string[]): string[] {
  const known = new Set(characters);
  const found = new Set<string>();
  for (const word of counts.keys()) {
    const [, ...rest] = [...word].filter((character) => known.has(character));
    for (const character of rest) found.add(character);
  }
  return characters.filter((character) => found.has(character));
}

function codePoint(character: string): number {
  return character.codePointAt(0) ?? 0;
}

/** The words as ids; characters that are no piece end a word's neighbourhood and are left out. */
function splitWords(counts: ReadonlyMap<string, number>, ids: ReadonlyMap<string, number>, continuing: string): Word[] {
  return Array.from(counts, ([text, count]) => {
    const symbols: number[] = [];
    for (const character of text) {
      const id = ids.get(symbols.length > 0 ? continuing + character : character);
      if (id !== undefined) symbols.push(id);
    }
    return { symbols, count };
  });
}

/** Joins every such pair of a word, from the left, and tells the queue which pairs went and came. */
function joinInWord(
  word: Word,
  index: number,
  { left, right, joined }: { readonly left: number; readonly right: number; readonly joined: number },
  queue: PairQueue,
): void {
  const { symbols, count } = word;
  const out: number[] = [];
  for (let i = 0; i < symbols.length; i++) {
    const symbol = symbols[i] as number;
    if (symbol !== left || symbols[i + 1] !== right) {
      out.push(symbol);
      continue;
    }
    const before = out.at(-1);
    const after = symbols[i + 2];
    if (before !== undefined) {
      queue.remove(before, left, count);
      queue.add(before, joined, count, index);
    }
    if (after !== undefined) {
      queue.remove(right, after, count);
      queue.add(joined, after, count, index);
    }
    out.push(joined);
    i++;
  }
  word.symbols = out;
}
