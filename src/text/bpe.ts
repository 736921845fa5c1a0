import type { JsonObject } from "../core/json.ts";
import { badFile, describe, flagField, stringField } from "./json_fields.ts";
import { type Merge, mergeSymbols } from "./merge_queue.ts";
import type { PieceModel } from "./models.ts";

const UTF8 = new TextEncoder();
const CACHED_WORDS = 10_000;
const CACHED_LENGTH = 256;

/** Byte-pair encoding by a list of merges, as the Hub's `tokenizers` run it. Throws `BAD_FILE`. */
export function createBpe(config: JsonObject, ids: Map<string, number>, hidden: ReadonlySet<number>): PieceModel {
  const pieces = new Map([...ids].map(([piece, id]) => [id, piece]));
  const prefix = stringField(config, "continuing_subword_prefix", "");
  const suffix = stringField(config, "end_of_word_suffix", "");
  const merges = readMerges(config, ids, prefix);
  const unk = config["unk_token"];
  const unkId = typeof unk === "string" ? ids.get(unk) : undefined;
  const wholeWords = flagField(config, "ignore_merges");
  const find = (left: number, right: number): Merge<number> | undefined => merges.get(pairKey(left, right));
  const symbolsOf = symbolReader(config, { ids, prefix, suffix, unkId });
  const cache = new Map<string, (number | undefined)[]>();

  const encode = (word: string): (number | undefined)[] => {
    const whole = wholeWords ? ids.get(word) : undefined;
    if (whole !== undefined && !hidden.has(whole)) return [whole];
    const known = cache.get(word);
    if (known) return known;
    const symbols = symbolsOf(word);
    const missing = symbols.includes(undefined);
    const out = missing ? symbols : mergeSymbols(symbols as number[], find);
    if (word.length < CACHED_LENGTH) {
      if (cache.size >= CACHED_WORDS) cache.clear();
      cache.set(word, out);
    }
    return out;
  };
  return { encode, pieces, ids, unkId };
}

/** Ids are below 2^32, and no vocabulary has so many: the product stays exact. */
function pairKey(left: number, right: number): number {
  return left * 2 ** 21 + right;
}

function readMerges(config: JsonObject, ids: ReadonlyMap<string, number>, prefix: string): Map<number, Merge<number>> {
  const list = config["merges"];
  if (!Array.isArray(list)) throw badFile("merges must be a list", describe(list));
  const merges = new Map<number, Merge<number>>();
  list.forEach((entry: unknown, rank) => {
    const pair = typeof entry === "string" ? entry.split(" ") : entry;
    if (!Array.isArray(pair) || pair.length !== 2) throw badFile("a merge must be two pieces", describe(entry));
    const [left, right] = pair as [string, string];
    const [leftId, rightId] = [ids.get(left), ids.get(right)];
    const merged = ids.get(left + String(right).slice(prefix.length));
    if (leftId === undefined || rightId === undefined || merged === undefined) {
      throw badFile("a merge must be of pieces in the vocabulary and give one", describe(entry));
    }
    if (leftId >= 2 ** 21 || rightId >= 2 ** 21) throw badFile("a merged id must be below 2^21", describe(entry));
    // A pair that comes twice keeps its last rank, as in the Rust library.
    merges.set(pairKey(leftId, rightId), { rank, merged });
  });
  return merges;
}

interface Symbols {
  readonly ids: ReadonlyMap<string, number>;
  readonly prefix: string;
  readonly suffix: string;
  readonly unkId: number | undefined;
}

/** A word's characters as ids, before any merge. */
function symbolReader(
  config: JsonObject,
  { ids, prefix, suffix, unkId }: Symbols,
): (word: string) => (number | undefined)[] {
  const fallback = flagField(config, "byte_fallback");
  const fuse = flagField(config, "fuse_unk");
  return (word) => {
    const out: (number | undefined)[] = [];
    const characters = Array.from(word);
    let afterUnknown = false;
    characters.forEach((character, i) => {
      const piece = (i > 0 ? prefix : "") + character + (i === characters.length - 1 ? suffix : "");
      const id = ids.get(piece);
      const bytes = id === undefined && fallback ? byteIds(character, ids) : undefined;
      if (id !== undefined) out.push(id);
      else if (bytes) out.push(...bytes);
      else if (!(fuse && afterUnknown)) out.push(unkId);
      afterUnknown = id === undefined && !bytes;
    });
    return out;
  };
}

/** The ids of `<0xE4>` and its like for a character's bytes, if the vocabulary has them all. */
export function byteIds(text: string, ids: ReadonlyMap<string, number>): number[] | undefined {
  const out: number[] = [];
  for (const byte of UTF8.encode(text)) {
    const id = ids.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
    if (id === undefined) return undefined;
    out.push(id);
  }
  return out;
}
