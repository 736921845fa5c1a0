import { HeedError } from "../core/errors.ts";
import type { ReadOptions, SourceFile } from "../core/source.ts";

/** One `"name": value` pair of the header, as written; offsets count from the first byte after the header. */
export interface HeaderPair {
  name: string;
  value: Record<string, unknown>;
}

/** Largest header, as in the format's own implementation. */
export const MAX_HEADER_BYTES = 100_000_000;
/** Largest single pair; what bounds the memory of a hostile header. Metadata of trainers reaches some MB. */
const MAX_PAIR_BYTES = 4 * 2 ** 20;
const READ_BYTES = 2 ** 18;

const QUOTE = 0x22;
const COLON = 0x3a;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** `BAD_FILE` in the house form, naming the file. */
export function headerError(file: SourceFile, rule: string, got: string): HeedError {
  return new HeedError(
    "BAD_FILE",
    `safetensors: ${rule}; got ${got} in ${file.name}. The file is damaged or not safetensors: download or save it again.`,
  );
}

/** The header's length in bytes, read from the first eight and checked against the caps and the file. */
export async function readHeaderLength(file: SourceFile, options: ReadOptions): Promise<number> {
  if (file.sizeBytes < 10) throw headerError(file, "a file has at least 10 bytes", `${file.sizeBytes}`);
  const first = await file.read(0, 8, options);
  const length = new DataView(first.buffer, first.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw headerError(file, `a header has at most ${MAX_HEADER_BYTES} bytes`, `${length}`);
  }
  const bytes = Number(length);
  if (bytes < 2 || bytes > file.sizeBytes - 8) {
    throw headerError(
      file,
      `a header of a ${file.sizeBytes}-byte file has 2 to ${file.sizeBytes - 8} bytes`,
      `${bytes}`,
    );
  }
  return bytes;
}

/**
 * Yields the pairs of the JSON object in bytes `[8, 8 + headerBytes)`, some at a time, reading a window at a time, so that
 * neither a large header nor a hostile one is ever held whole. Each value is an object. Throws `BAD_FILE`.
 */
export async function* readPairs(
  file: SourceFile,
  headerBytes: number,
  options: ReadOptions,
): AsyncGenerator<HeaderPair[], void, void> {
  const scanner = new HeaderScanner(file, headerBytes);
  for (;;) {
    const pairs: HeaderPair[] = [];
    const done = scanner.scan(pairs);
    if (pairs.length > 0) yield pairs;
    if (done) return;
    await scanner.grow(options);
  }
}

/** Thrown and caught below: the window ends before the pair does. */
const NEED_MORE = Symbol("need more");

/** Scans a moving window of the header's bytes, without waiting: an incomplete pair is scanned again with more bytes. */
class HeaderScanner {
  readonly #file: SourceFile;
  readonly #end: number;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;
  #fileAt = 8;
  /** What may come next: the opening brace, a pair or the end, a pair, or only spaces. */
  #state: "begin" | "first" | "pair" | "rest" = "begin";

  constructor(file: SourceFile, headerBytes: number) {
    this.#file = file;
    this.#end = 8 + headerBytes;
  }

  /** Takes what the window holds, pushing whole pairs; true when the header's end is reached. */
  scan(pairs: HeaderPair[]): boolean {
    let taken = this.#at;
    try {
      for (;;) {
        if (this.#step(pairs)) return true;
        taken = this.#at;
      }
    } catch (error) {
      if (error !== NEED_MORE) throw error;
      this.#at = taken;
      return false;
    }
  }

  /** Reads more of the header behind what is not yet taken. */
  async grow(options: ReadOptions): Promise<void> {
    const kept = this.#bytes.subarray(this.#at);
    if (kept.length > MAX_PAIR_BYTES)
      throw this.#fail(`one entry of a header has at most ${MAX_PAIR_BYTES} bytes`, "a longer one");
    // At least doubled, so that scanning a long pair again and again stays linear.
    const want = Math.min(Math.max(READ_BYTES, kept.length), this.#end - this.#fileAt);
    const more = await this.#file.read(this.#fileAt, this.#fileAt + want, options);
    this.#fileAt += want;
    const joined = new Uint8Array(kept.length + more.length);
    joined.set(kept);
    joined.set(more, kept.length);
    this.#bytes = joined;
    this.#at = 0;
  }

  #step(pairs: HeaderPair[]): boolean {
    if (this.#state === "begin") {
      if (this.#peek() !== OPEN_BRACE) throw this.#fail("a header begins with {");
      this.#at++;
      this.#state = "first";
      return false;
    }
    const byte = this.#skipSpace();
    if (this.#state === "rest") {
      if (byte !== undefined) throw this.#fail("only spaces follow the header's }");
      return true;
    }
    if (this.#state === "first" && byte === CLOSE_BRACE) {
      this.#at++;
      this.#state = "rest";
      return false;
    }
    const pair = this.#scanPair();
    const next = this.#skipSpace();
    if (next !== COMMA && next !== CLOSE_BRACE) throw this.#fail("pairs are divided by ,");
    this.#at++;
    this.#state = next === COMMA ? "pair" : "rest";
    pairs.push(pair);
    return false;
  }

  #scanPair(): HeaderPair {
    if (this.#peek() !== QUOTE) throw this.#fail("a name in quotes comes here");
    const start = this.#at;
    this.#skipString();
    if (this.#skipSpace() !== COLON) throw this.#fail("a name is followed by :");
    this.#at++;
    if (this.#skipSpace() !== OPEN_BRACE) throw this.#fail("the value of a name is an object");
    const keyCount = this.#skipObject();
    const parsed = this.#parse(this.#bytes.subarray(start, this.#at));
    const [name = ""] = Object.keys(parsed);
    const value = parsed[name] as Record<string, unknown>;
    // JSON.parse would keep the last of two equal keys in silence.
    if (Object.keys(value).length !== keyCount)
      throw this.#fail("a key occurs once", `a repeated key in ${JSON.stringify(name)}`);
    return { name, value };
  }

  /** The next byte, or `undefined` at the header's end. */
  #peek(): number | undefined {
    if (this.#at >= this.#bytes.length && this.#fileAt < this.#end) throw NEED_MORE;
    return this.#bytes[this.#at];
  }

  /** Passes JSON's white space; returns the byte after it. */
  #skipSpace(): number | undefined {
    const bytes = this.#bytes;
    while (this.#at < bytes.length && isSpace(bytes[this.#at])) this.#at++;
    return this.#peek();
  }

  #skipString(): void {
    this.#at = endOfString(this.#bytes, this.#at);
    if (this.#at > this.#bytes.length) this.#ranOut();
  }

  /** Passes the object that begins here; returns how many keys of its own it has. */
  #skipObject(): number {
    const bytes = this.#bytes;
    let depth = 0;
    let keys = 0;
    for (let at = this.#at; at < bytes.length; ) {
      const byte = bytes[at];
      at = byte === QUOTE ? endOfString(bytes, at) : at + 1;
      if (byte === COLON && depth === 1) keys++;
      else if (byte === OPEN_BRACE) depth++;
      else if (byte === CLOSE_BRACE && --depth === 0) {
        this.#at = at;
        return keys;
      }
    }
    return this.#ranOut();
  }

  #ranOut(): never {
    if (this.#fileAt < this.#end) throw NEED_MORE;
    throw this.#fail("a header is a complete JSON object", "an end in the middle of it");
  }

  #parse(pair: Uint8Array): Record<string, unknown> {
    let text: string;
    try {
      text = this.#decoder.decode(pair);
    } catch {
      throw this.#fail("a header is UTF-8", "other bytes");
    }
    try {
      return JSON.parse(`{${text}}`);
    } catch (error) {
      throw this.#fail("a header is JSON", String(error).slice(0, 120));
    }
  }

  /** The error of a broken rule, by default showing what comes next. */
  #fail(rule: string, got?: string): HeedError {
    const next = new TextDecoder().decode(this.#bytes.subarray(this.#at, this.#at + 24));
    return headerError(this.#file, rule, got ?? (next === "" ? "the end of the header" : JSON.stringify(next)));
  }
}

/** The index after the string that begins with a quote at `start`; beyond the bytes when it does not end in them. */
function endOfString(bytes: Uint8Array, start: number): number {
  for (let at = start + 1; at < bytes.length; at++) {
    if (bytes[at] === BACKSLASH) at++;
    else if (bytes[at] === QUOTE) return at + 1;
  }
  return bytes.length + 1;
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}
