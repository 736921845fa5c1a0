import { HeedError } from "../core/errors.ts";
import { byteLevelBytes } from "./byte_level.ts";

/** What turning ids into text needs to know of a tokenizer. */
export interface DecodeVocabulary {
  /** The raw piece of an id, or undefined where there is none. */
  idToToken(id: number): string | undefined;
  /** True for control tokens such as `</s>`. */
  isSpecial(id: number): boolean;
  /** True for tokens that were added beside the model's own pieces; their text is literal. */
  isAdded(id: number): boolean;
  /** The `decoder` of tokenizer.json; null joins pieces with spaces. */
  decoder: unknown;
}

/** What {@link createDetokenizer} takes. */
export interface DetokenizerOptions {
  /** Leave special tokens out of the text. Default true. */
  skipSpecial?: boolean;
  /** Ids that came before, whose text is not repeated: a first word keeps the space that divides it from them. */
  after?: Iterable<number>;
}

/** Turns ids into text, one at a time. */
export interface Detokenizer {
  /** The text that became certain with this id: whole characters only, possibly none. An unknown id adds nothing. */
  push(id: number): string;
  /** The rest: bytes that never became a character come out as U+FFFD. The detokenizer is then as new, `after` forgotten. */
  flush(): string;
}

/** A piece of text on its way through the stages; `added` marks the literal text of an added token. */
interface Piece {
  text: string;
  added: boolean;
}

/** One step of a tokenizer's decoder, as a transducer: what goes in comes out as soon as nothing later can change it. */
interface Stage {
  push(piece: Piece): Piece[];
  flush(): Piece[];
}

/**
 * A streaming detokenizer: the concatenation of all `push` and the `flush` is the text of the whole list, whatever the
 * list; each id costs the length of its piece.
 *
 * Follows the decoders of the Hub's `tokenizers` library, with one deliberate difference: invalid UTF-8 becomes U+FFFD as the
 * Encoding standard says, which can be decided byte by byte.
 * Throws `UNSUPPORTED` if tokenizer.json names a decoder that is not known here.
 */
export function createDetokenizer(vocabulary: DecodeVocabulary, options: DetokenizerOptions = {}): Detokenizer {
  const { skipSpecial = true, after = [] } = options;
  let stages = createStages(vocabulary.decoder);

  const push = (id: number): string => {
    if (skipSpecial && vocabulary.isSpecial(id)) return "";
    const token = vocabulary.idToToken(id);
    if (token === undefined) return "";
    return textOf(passOn(stages, 0, [{ text: token, added: vocabulary.isAdded(id) }]));
  };
  const flush = (): string => {
    let text = "";
    stages.forEach((stage, i) => {
      text += textOf(passOn(stages, i + 1, stage.flush()));
    });
    stages = createStages(vocabulary.decoder);
    return text;
  };
  for (const id of after) push(id);
  return { push, flush };
}

function passOn(stages: readonly Stage[], from: number, pieces: Piece[]): Piece[] {
  return stages.slice(from).reduce((now, stage) => now.flatMap((piece) => stage.push(piece)), pieces);
}

function textOf(pieces: readonly Piece[]): string {
  return pieces.map((piece) => piece.text).join("");
}

/** A `decoder` entry of tokenizer.json, as far as it is read here. */
interface DecoderConfig {
  type?: unknown;
  decoders?: unknown;
  pattern?: { String?: unknown };
  content?: unknown;
  start?: unknown;
  stop?: unknown;
  prefix?: unknown;
  suffix?: unknown;
  cleanup?: unknown;
  replacement?: unknown;
  prepend_scheme?: unknown;
  add_prefix_space?: unknown;
}

function createStages(decoder: unknown): Stage[] {
  if (decoder === null || decoder === undefined) return [eachPiece(spaceBetween())];
  let fused = false;
  const stages: Stage[] = [];
  for (const config of flatten(decoder as DecoderConfig)) {
    if (config.type === "Fuse") fused = true;
    else stages.push(createStage(config, fused));
  }
  return stages;
}

function flatten(config: DecoderConfig): DecoderConfig[] {
  if (typeof config !== "object" || config === null) throw unsupported(`decoder ${String(config)}`);
  if (config.type !== "Sequence") return [config];
  return (Array.isArray(config.decoders) ? (config.decoders as DecoderConfig[]) : []).flatMap(flatten);
}

function createStage(config: DecoderConfig, fused: boolean): Stage {
  switch (config.type) {
    case "ByteLevel":
      return bytesStage((piece) => (piece.added ? undefined : byteLevelBytes(piece.text)));
    case "ByteFallback":
      return bytesStage((piece) => fallbackBytes(piece.text));
    case "Replace":
      return replaceStage(config, fused);
    case "Strip":
      return fused ? stripWholeStage(config) : eachPiece((text) => strip(text, config));
    case "Metaspace":
      return eachPiece(metaspace(config));
    case "WordPiece":
      return eachPiece(wordPiece(config));
    case "BPEDecoder":
      return suffixStage(String(config.suffix ?? "</w>"));
    default:
      throw unsupported(`decoder type ${String(config.type)}`);
  }
}

function unsupported(what: string): HeedError {
  return new HeedError(
    "UNSUPPORTED",
    `tokenizer: the decoder must be one that can stream; got ${what}. ` +
      "Known: ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, WordPiece, BPEDecoder, Sequence.",
  );
}

/** A stage that changes each piece by itself; the second argument counts pieces from 0. */
function eachPiece(change: (text: string, index: number) => string): Stage {
  let index = 0;
  return { push: (piece) => [{ text: change(piece.text, index++), added: piece.added }], flush: () => [] };
}

function spaceBetween(): (text: string, index: number) => string {
  return (text, index) => (index === 0 ? text : ` ${text}`);
}

/** Decodes runs of bytes as UTF-8; a piece for which `bytesOf` gives undefined ends the run and passes through. */
function bytesStage(bytesOf: (piece: Piece) => number[] | undefined): Stage {
  const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
  const asPieces = (text: string): Piece[] => (text === "" ? [] : [{ text, added: false }]);
  return {
    push(piece) {
      const bytes = bytesOf(piece);
      if (bytes) return asPieces(utf8.decode(Uint8Array.from(bytes), { stream: true }));
      return [...asPieces(utf8.decode()), piece];
    },
    flush: () => asPieces(utf8.decode()),
  };
}

/** The byte of `<0xE4>`, or undefined. */
function fallbackBytes(text: string): number[] | undefined {
  const match = /^<0x([0-9A-Fa-f]{2})>$/.exec(text);
  return match ? [Number.parseInt(match[1] as string, 16)] : undefined;
}

function replaceStage(config: DecoderConfig, fused: boolean): Stage {
  const pattern = config.pattern?.String;
  if (typeof pattern !== "string" || (fused && pattern.length > 1)) {
    throw unsupported(`Replace of ${JSON.stringify(config.pattern)}${fused ? " after Fuse" : ""}`);
  }
  const content = String(config.content ?? "");
  return eachPiece((text) => text.replaceAll(pattern, () => content));
}

function strip(text: string, config: DecoderConfig): string {
  const content = String(config.content ?? " ");
  let from = 0;
  let to = text.length;
  for (let i = 0; i < count(config.start) && text[from] === content; i++) from++;
  for (let i = 0; i < count(config.stop) && to > from && text[to - 1] === content; i++) to--;
  return text.slice(from, to);
}

/** Strips the ends of the whole text: the first characters as they come, the last ones by holding them back. */
function stripWholeStage(config: DecoderConfig): Stage {
  const content = String(config.content ?? " ");
  const stop = count(config.stop);
  let startLeft = count(config.start);
  let held = "";
  return {
    push({ text, added }) {
      let from = 0;
      while (from < text.length && from < startLeft && text[from] === content) from++;
      // Any other character ends the start of the text.
      startLeft = from < text.length ? 0 : startLeft - from;
      const all = held + text.slice(from);
      let hold = 0;
      while (hold < stop && hold < all.length && all[all.length - 1 - hold] === content) hold++;
      held = all.slice(all.length - hold);
      return [{ text: all.slice(0, all.length - hold), added }];
    },
    flush: () => [],
  };
}

function count(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

function metaspace(config: DecoderConfig): (text: string, index: number) => string {
  const replacement = String(config.replacement ?? "▁");
  const prepended = config.prepend_scheme !== "never" && config.add_prefix_space !== false;
  return (text, index) => text.replaceAll(replacement, index === 0 && prepended ? "" : " ");
}

function wordPiece(config: DecoderConfig): (text: string, index: number) => string {
  const prefix = String(config.prefix ?? "##");
  return (text, index) => {
    const joined = text.startsWith(prefix) ? text.slice(prefix.length) : ` ${text}`;
    const word = index === 0 ? text : joined;
    return config.cleanup === true ? word.replace(/^ ([.?!,]|n't|'m|'s|'ve|'re)/, "$1") : word;
  };
}

/** End-of-word suffixes become spaces, but for the last one; so one piece is held back. */
function suffixStage(suffix: string): Stage {
  let held: Piece | undefined;
  return {
    push(piece) {
      const before = held ? [{ ...held, text: held.text.replaceAll(suffix, " ") }] : [];
      held = piece;
      return before;
    },
    flush: () => (held ? [{ ...held, text: held.text.replaceAll(suffix, "") }] : []),
  };
}
