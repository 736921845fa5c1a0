import { HeedError } from "../core/errors.ts";
import type { ReadOptions, SourceFile } from "../core/source.ts";

/** A value of a GGUF file's metadata: lists hold numbers, booleans or texts. */
export type GgufValue = number | boolean | string | readonly (number | boolean | string)[];

/** A tensor as the header describes it: the fastest dimension last, as everywhere in Heed. */
export interface GgufTensor {
  readonly name: string;
  /** The number that stands for the element type. */
  readonly type: number;
  readonly shape: number[];
  /** Bytes from the beginning of the tensors' data. */
  readonly offset: number;
}

/** What a GGUF file says before its tensors' data. */
export interface GgufHeader {
  readonly metadata: Map<string, GgufValue>;
  readonly tensors: GgufTensor[];
  /** Where the tensors' data begins. */
  readonly dataStart: number;
}

const MAGIC = 0x46554747;
const FIRST_WINDOW_BYTES = 2 ** 20;
/** Largest header: a quarter of a million tokens and merges take about 20 MB. */
const MAX_HEADER_BYTES = 2 ** 28;
const MAX_TENSORS = 2 ** 16;
const MAX_KEYS = 2 ** 16;
const MAX_DIMS = 8;
const MAX_NAME_BYTES = 2 ** 16;

/** Thrown and caught below: the window ends before the header does. */
const NEED_MORE = Symbol("need more");

/**
 * Reads and checks the header of a GGUF file, version 2 or 3, a growing window at a time. Nothing is allocated by a count that the file
 * states: lists grow with the bytes that are there. (`@huggingface/gguf` trusts such counts, and takes URLs and paths where Heed has
 * sources.) Throws `BAD_FILE`, `UNSUPPORTED`. Source: the GGUF description in ggml's docs/gguf.md.
 */
export async function readGgufHeader(file: SourceFile, options: ReadOptions = {}): Promise<GgufHeader> {
  for (let windowBytes = FIRST_WINDOW_BYTES; ; windowBytes *= 4) {
    const bytes = await file.read(0, Math.min(windowBytes, file.sizeBytes), options);
    try {
      return new HeaderReader(file, bytes).read();
    } catch (error) {
      if (error !== NEED_MORE) throw error;
      if (bytes.length === file.sizeBytes)
        throw ggufError(file, "a header must be whole", "one that goes on past the end");
      if (windowBytes >= MAX_HEADER_BYTES)
        throw ggufError(file, `a header has at most ${MAX_HEADER_BYTES} bytes`, "more");
    }
  }
}

/** `BAD_FILE` in the house form. */
export function ggufError(file: SourceFile, rule: string, got: string): HeedError {
  return new HeedError(
    "BAD_FILE",
    `gguf: ${rule}; got ${got} in ${file.name}. The file is damaged: download or save it again.`,
  );
}

const SCALAR_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8] as const;
const STRING = 8;
const ARRAY = 9;

class HeaderReader {
  readonly #file: SourceFile;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #text = new TextDecoder("utf-8", { ignoreBOM: true });
  #at = 0;

  constructor(file: SourceFile, bytes: Uint8Array) {
    this.#file = file;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  read(): GgufHeader {
    if (this.#u32() !== MAGIC) throw this.#fail("a file begins with GGUF", "something else");
    const version = this.#u32();
    if (version !== 2 && version !== 3) {
      const what = version >= 2 ** 16 ? "a big-endian file" : `version ${version}`;
      throw new HeedError(
        "UNSUPPORTED",
        `gguf: versions 2 and 3, little-endian, are read; got ${what} in ${this.#file.name}. Convert it again.`,
      );
    }
    const tensorCount = this.#count(MAX_TENSORS, "tensors");
    const keyCount = this.#count(MAX_KEYS, "keys");
    const metadata = new Map<string, GgufValue>();
    for (let i = 0; i < keyCount; i++) {
      const key = this.#string(MAX_NAME_BYTES);
      if (metadata.has(key)) throw this.#fail("a key occurs once", `${JSON.stringify(key.slice(0, 80))} twice`);
      metadata.set(key, this.#value(this.#u32()));
    }
    const tensors: GgufTensor[] = [];
    const names = new Set<string>();
    for (let i = 0; i < tensorCount; i++) {
      const tensor = this.#tensor();
      if (names.has(tensor.name))
        throw this.#fail("a tensor's name occurs once", `${JSON.stringify(tensor.name.slice(0, 80))} twice`);
      names.add(tensor.name);
      tensors.push(tensor);
    }
    const alignment = metadata.get("general.alignment") ?? 32;
    if (typeof alignment !== "number" || alignment < 8 || alignment > 2 ** 20 || alignment % 8 !== 0) {
      throw this.#fail("general.alignment is a multiple of 8", JSON.stringify(alignment).slice(0, 40));
    }
    return { metadata, tensors, dataStart: Math.ceil(this.#at / alignment) * alignment };
  }

  #tensor(): GgufTensor {
    const name = this.#string(MAX_NAME_BYTES);
    const dims = this.#u32();
    if (dims > MAX_DIMS) throw this.#fail(`a tensor has at most ${MAX_DIMS} dimensions`, `${dims}`);
    const shape = Array.from({ length: dims }, () => this.#u64()).reverse();
    return { name, shape, type: this.#u32(), offset: this.#u64() };
  }

  #value(type: number): GgufValue {
    if (type === STRING) return this.#string(MAX_HEADER_BYTES);
    if (type !== ARRAY) return this.#scalar(type);
    const elements = this.#u32();
    const count = this.#u64();
    const least = elements === STRING ? 8 : SCALAR_BYTES[elements];
    if (!least) throw this.#fail("a list is of numbers, booleans or texts", `type ${elements}`);
    if (count * least > this.#file.sizeBytes - this.#at)
      throw this.#fail("a list must be in the file", `${count} elements`);
    const list: (number | boolean | string)[] = [];
    for (let i = 0; i < count; i++)
      list.push(elements === STRING ? this.#string(MAX_NAME_BYTES) : this.#scalar(elements));
    return list;
  }

  #scalar(type: number): number | boolean {
    const size = SCALAR_BYTES[type];
    if (!size) throw this.#fail("a value is of a known type", `type ${type}`);
    const at = this.#take(size);
    const view = this.#view;
    switch (type) {
      case 0:
        return view.getUint8(at);
      case 1:
        return view.getInt8(at);
      case 2:
        return view.getUint16(at, true);
      case 3:
        return view.getInt16(at, true);
      case 4:
        return view.getUint32(at, true);
      case 5:
        return view.getInt32(at, true);
      case 6:
        return view.getFloat32(at, true);
      case 7:
        return view.getUint8(at) !== 0;
      case 10:
        return Number(view.getBigUint64(at, true));
      case 11:
        return Number(view.getBigInt64(at, true));
      default:
        return view.getFloat64(at, true);
    }
  }

  #string(maxBytes: number): string {
    const length = this.#u64();
    if (length > maxBytes || length > this.#file.sizeBytes - this.#at)
      throw this.#fail("a text must be in the file", `${length} bytes`);
    const at = this.#take(length);
    return this.#text.decode(this.#bytes.subarray(at, at + length));
  }

  #count(most: number, what: string): number {
    const count = this.#u64();
    if (count > most) throw this.#fail(`a file has at most ${most} ${what}`, `${count}`);
    return count;
  }

  #u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  #u64(): number {
    const value = this.#view.getBigUint64(this.#take(8), true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.#fail("a count is below 2^53", `${value}`);
    return Number(value);
  }

  /** Moves on by so many bytes; the place before them. */
  #take(count: number): number {
    if (count > this.#bytes.length - this.#at) throw NEED_MORE;
    this.#at += count;
    return this.#at - count;
  }

  #fail(rule: string, got: string): HeedError {
    return ggufError(this.#file, rule, got);
  }
}
