const UTF8 = new TextEncoder();

/** Where a token stands in a text: `text.slice(start, end)`, in UTF-16 code units. */
export type Offset = readonly [start: number, end: number];

/** What {@link alignTokens} needs to know of a tokenizer. */
export interface Alignment {
  /** The normaliser, run here on one grapheme at a time. */
  readonly normalize: (text: string) => string;
  /** The bytes that a token stands for, spaces included; undefined for the unknown token. */
  readonly bytesOf: (id: number) => Uint8Array | undefined;
}

const SPACE = 0x20;

/**
 * The place of each token in the text that it was made of. Spaces belong to no token; a token that stands for a part of a character
 * has the whole one. Characters that the normaliser joins across graphemes may shift by one.
 */
export function alignTokens(text: string, ids: readonly number[], { normalize, bytesOf }: Alignment): Offset[] {
  const { bytes, starts, ends } = normalizedBytes(text, normalize);
  const surfaces = ids.map((id) => bytesOf(id)?.filter((byte) => byte !== SPACE));
  let at = 0;
  return surfaces.map((surface, i) => {
    const first = at;
    if (surface) {
      at = Math.min(bytes.length, at + surface.length);
    } else {
      const after = surfaces.slice(i + 1).find((next) => next && next.length > 0);
      at = after ? indexOfBytes(bytes, after, at + 1) : bytes.length;
    }
    if (at === first) {
      const place = starts[at] ?? text.length;
      return [place, place];
    }
    return [starts[first] as number, ends[at - 1] as number];
  });
}

/** The normalised text's bytes without spaces, and where in the text each comes from. */
function normalizedBytes(text: string, normalize: (text: string) => string) {
  const bytes: number[] = [];
  const starts: number[] = [];
  const ends: number[] = [];
  graphemes ??= new Intl.Segmenter("en", { granularity: "grapheme" });
  for (const { segment, index } of graphemes.segment(text)) {
    for (const byte of UTF8.encode(normalize(segment).replace(/[ ▁]/g, ""))) {
      bytes.push(byte);
      starts.push(index);
      ends.push(index + segment.length);
    }
  }
  return { bytes, starts, ends };
}

let graphemes: Intl.Segmenter | undefined;

function indexOfBytes(bytes: readonly number[], wanted: Uint8Array, from: number): number {
  for (let at = from; at + wanted.length <= bytes.length; at++) {
    if (wanted.every((byte, i) => bytes[at + i] === byte)) return at;
  }
  return bytes.length;
}
