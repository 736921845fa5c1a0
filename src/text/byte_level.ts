const UTF8 = new TextEncoder();

/**
 * The characters that stand for bytes in byte-level pieces. Printable bytes stand for themselves; the other 68 were moved, in
 * order, to U+0100 and up (Radford et al., GPT-2, encoder.py).
 */
const CHARACTER_OF_BYTE: readonly string[] = byteLevelAlphabet();
const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = new Map(CHARACTER_OF_BYTE.map((c, byte) => [c, byte]));

function byteLevelAlphabet(): string[] {
  let moved = 0;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCodePoint(printable ? byte : 0x100 + moved++);
  });
}

/** The text with each byte of its UTF-8 as the character that stands for it. */
export function byteLevelText(text: string): string {
  let out = "";
  for (const byte of UTF8.encode(text)) out += CHARACTER_OF_BYTE[byte];
  return out;
}

/** The bytes that a byte-level piece stands for. A character outside that alphabet stands for its own UTF-8. */
export function byteLevelBytes(piece: string): number[] {
  return [...piece].flatMap((character) => {
    const byte = BYTE_OF_CHARACTER.get(character);
    return byte === undefined ? Array.from(UTF8.encode(character)) : [byte];
  });
}
