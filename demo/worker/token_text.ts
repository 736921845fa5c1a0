import type { Tokenizer } from "../../src/index.ts";
import type { TokenText } from "../attention/maps.ts";

/** Each id with the text that it adds; the raw piece where it adds none by itself (a part of a character, a special token). */
export function tokenTexts(tokenizer: Tokenizer | undefined, ids: readonly number[]): TokenText[] {
  if (!tokenizer) return ids.map((id) => ({ id, text: `#${id}` }));
  const detokenizer = tokenizer.detokenizer({ skipSpecial: false });
  return ids.map((id) => ({ id, text: detokenizer.push(id) || tokenText(tokenizer, id).text }));
}

/** The text of one id out of any context. */
export function tokenText(tokenizer: Tokenizer | undefined, id: number): TokenText {
  const raw = tokenizer?.idToToken(id) ?? `#${id}`;
  // Pieces mark a blank before them in one of two ways.
  return { id, text: /^<0x[0-9A-F]{2}>$/.test(raw) ? raw : raw.replace(/[▁Ġ]/g, " ").replace(/Ċ/g, "\n") };
}
