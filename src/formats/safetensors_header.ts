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
    throw headerError(file, `a header of a ${file.sizeBytes}-byte file has 2 to ${file.sizeBytes - 8} bytes`, `${bytes}`);
  }
  return bytes;
}

/**
 * Yields the pairs of the JSON object in bytes `[8, 8 + headerBytes)`, reading a window at a time, so that neither a
 * large header nor a hostile one is ever held whole. Each value must be an object. Throws `BAD_FILE`.
 */
export async function* readPairs(file: SourceFile, headerBytes: number, options: ReadOptions): AsyncIterable<HeaderPair> {
  const window = new HeaderWindow(file, headerBytes, options);
  if ((await window.peek()) !== OPEN_BRACE) throw headerError(file, "a header begins with {", await window.show());
  window.take();
  if ((await window.skipSpace()) === CLOSE_BRACE) window.take();
  else {
    for (;;) {
      if ((await window.skipSpace()) !== QUOTE) throw headerError(file, "a name in quotes comes here", await window.show());
      const name = await window.takeString();
      if ((await window.skipSpace()) !== COLON) throw headerError(file, "a name is followed by :", await window.show());
      window.take();
      if ((await window.skipSpace()) !== OPEN_BRACE) {
        throw headerError(file, `the value of ${JSON.stringify(name)} is an object`, await window.show());
      }
      yield { name, value: await window.takeObject(name) };
      const next = await window.skipSpace();
      if (next !== COMMA && next !== CLOSE_BRACE) throw headerError(file, "pairs are divided by ,", await window.show());
      window.take();
      if (next === CLOSE_BRACE) break;
    }
  }
  if ((await window.skipSpace()) !== undefined) {
    throw headerError(file, "only spaces follow the header's }", await window.show());
  }
}

/** A moving view of the header's bytes: grows to hold one pair, forgets what was taken. */
class HeaderWindow {
  readonly #file: SourceFile;
  readonly #options: ReadOptions;
  readonly #end: number;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;
  #fileAt = 8;

  constructor(file: SourceFile, headerBytes: number, options: ReadOptions) {
    this.#file = file;
    this.#options = options;
    this.#end = 8 + headerBytes;
  }

  take(): void {
    this.#at++;
  }

  /** The next byte, or `undefined` at the header's end. */
  async peek(): Promise<number | undefined> {
    if (this.#at >= this.#bytes.length) await this.#grow();
    return this.#bytes[this.#at];
  }

  /** Passes JSON's white space; returns the byte after it. */
  async skipSpace(): Promise<number | undefined> {
    for (;;) {
      const byte = await this.peek();
      if (!isSpace(byte)) return byte;
      while (this.#at < this.#bytes.length && isSpace(this.#bytes[this.#at])) this.#at++;
    }
  }

  /** Some bytes from here on, for messages. */
  async show(): Promise<string> {
    await this.peek();
    const shown = this.#bytes.subarray(this.#at, this.#at + 24);
    return shown.length === 0 ? "the end of the header" : JSON.stringify(new TextDecoder().decode(shown));
  }

  async takeString(): Promise<string> {
    const text = await this.#takeUntil(stringScanner());
    const value = this.#parse(text);
    if (typeof value !== "string") throw headerError(this.#file, "a name is a string", text.slice(0, 40));
    return value;
  }

  /** An object whose keys are all different: `JSON.parse` alone would keep the last of two in silence. */
  async takeObject(name: string): Promise<Record<string, unknown>> {
    const scan = objectScanner();
    const value = this.#parse(await this.#takeUntil(scan));
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw headerError(this.#file, `the value of ${JSON.stringify(name)} is an object`, typeof value);
    }
    if (Object.keys(value).length !== scan.keyCount()) {
      throw headerError(this.#file, "a key occurs once", `a repeated key in ${JSON.stringify(name)}`);
    }
    return value as Record<string, unknown>;
  }

  /** Takes bytes up to and with the one at which `scan` says `true`. */
  async #takeUntil(scan: Scanner): Promise<string> {
    for (let offset = 0; ; offset++) {
      if (this.#at + offset >= this.#bytes.length && !(await this.#grow())) {
        throw headerError(this.#file, "a header is a complete JSON object", "an end in the middle of it");
      }
      if (!scan.done(this.#bytes[this.#at + offset] ?? 0)) continue;
      const taken = this.#bytes.subarray(this.#at, this.#at + offset + 1);
      this.#at += offset + 1;
      return this.#decode(taken);
    }
  }

  #decode(bytes: Uint8Array): string {
    try {
      return this.#decoder.decode(bytes);
    } catch {
      throw headerError(this.#file, "a header is UTF-8", "other bytes");
    }
  }

  #parse(text: string): unknown {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw headerError(this.#file, "a header is JSON", `${String(error).slice(0, 120)}`);
    }
  }

  /** Reads more of the header behind what is not yet taken; false at its end. */
  async #grow(): Promise<boolean> {
    const want = Math.min(READ_BYTES, this.#end - this.#fileAt);
    if (want === 0) return false;
    const kept = this.#bytes.subarray(this.#at);
    if (kept.length > MAX_PAIR_BYTES) {
      throw headerError(this.#file, `one entry of a header has at most ${MAX_PAIR_BYTES} bytes`, "a longer one");
    }
    const more = await this.#file.read(this.#fileAt, this.#fileAt + want, this.#options);
    this.#fileAt += want;
    if (kept.length === 0) this.#bytes = more;
    else {
      const joined = new Uint8Array(kept.length + more.length);
      joined.set(kept);
      joined.set(more, kept.length);
      this.#bytes = joined;
    }
    this.#at = 0;
    return true;
  }
}

interface Scanner {
  /** Takes the next byte; true if it is the last of the thing scanned. */
  done(byte: number): boolean;
}

/** Finds the quote that closes the string which begins at the first byte. */
function stringScanner(): Scanner {
  let count = 0;
  let escaped = false;
  return {
    done: (byte) => {
      if (count++ === 0) return false;
      if (escaped) escaped = false;
      else if (byte === BACKSLASH) escaped = true;
      else return byte === QUOTE;
      return false;
    },
  };
}

/** Finds the brace that closes the object which begins at the first byte, and counts its own keys on the way. */
function objectScanner(): Scanner & { keyCount(): number } {
  let depth = 0;
  let keys = 0;
  let inString = false;
  let escaped = false;
  return {
    keyCount: () => keys,
    done: (byte) => {
      if (inString) {
        if (escaped) escaped = false;
        else if (byte === BACKSLASH) escaped = true;
        else if (byte === QUOTE) inString = false;
      } else if (byte === QUOTE) inString = true;
      else if (byte === OPEN_BRACE) depth++;
      else if (byte === CLOSE_BRACE) return --depth === 0;
      else if (byte === COLON && depth === 1) keys++;
      return false;
    },
  };
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}
