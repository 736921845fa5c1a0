import { badFile } from "./json_fields.ts";

const UTF8 = new TextEncoder();
const TEXT = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * SentencePiece's compiled normalisation rules: u32 bytes of a double-array trie (little-endian), the trie, then the
 * replacements, each ended by a zero. Source: sentencepiece/normalizer.cc and Darts-clone's unit layout.
 */
export class Charsmap {
  readonly #units: Uint32Array;
  readonly #texts: Uint8Array;

  /** Throws `BAD_FILE` for bytes that are no such table. */
  constructor(bytes: Uint8Array) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const trieBytes = bytes.length < 4 ? 0 : view.getUint32(0, true);
    if (trieBytes === 0 || trieBytes % 4 !== 0 || trieBytes > bytes.length - 4) {
      throw badFile("precompiled_charsmap must hold a trie and its texts", `${bytes.length} bytes`);
    }
    this.#units = new Uint32Array(bytes.slice(4, 4 + trieBytes).buffer);
    this.#texts = bytes.subarray(4 + trieBytes);
  }

  /** Every key that the bytes from `start` begin with, shortest first: its length in bytes and its replacement. */
  prefixes(bytes: Uint8Array, start: number): { length: number; text: string }[] {
    const units = this.#units;
    const found: { length: number; text: string }[] = [];
    let node = offsetOf(units[0] ?? 0);
    for (let at = start; at < bytes.length; at++) {
      const byte = bytes[at] as number;
      if (byte === 0) break;
      node ^= byte;
      const unit = units[node];
      if (unit === undefined || (unit & 0x800000ff) !== byte) break;
      node ^= offsetOf(unit);
      if ((unit & 0x100) !== 0)
        found.push({ length: at + 1 - start, text: this.#textAt((units[node] ?? 0) & 0x7fffffff) });
    }
    return found;
  }

  #textAt(start: number): string {
    const end = this.#texts.indexOf(0, start);
    return TEXT.decode(this.#texts.subarray(start, end < 0 ? this.#texts.length : end));
  }
}

function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}

/**
 * The text with every grapheme of fewer than six bytes, or else every character, replaced by what the rules have for the shortest key
 * that it begins with: what the Hub's `tokenizers` make of a charsmap.
 */
export function normalizeGraphemes(charsmap: Charsmap, text: string): string {
  let out = "";
  const change = (part: string): string | undefined => charsmap.prefixes(UTF8.encode(part), 0)[0]?.text;
  graphemes ??= new Intl.Segmenter("en", { granularity: "grapheme" });
  for (const { segment } of graphemes.segment(text)) {
    const whole = UTF8.encode(segment).length < 6 ? change(segment) : undefined;
    if (whole !== undefined) out += whole;
    else for (const character of segment) out += change(character) ?? character;
  }
  return out;
}

let graphemes: Intl.Segmenter | undefined;
