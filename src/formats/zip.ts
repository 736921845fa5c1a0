import { HeedError } from "../core/errors.ts";
import { checkRange, type ReadOptions, type SourceFile } from "../core/source.ts";

/** Largest list of entries: 2^16 tensors, with long names. */
const MAX_DIRECTORY_BYTES = 16 * 2 ** 20;
const END_BYTES = 22;
const END64_BYTES = 56;
const LOCATOR_BYTES = 20;

/**
 * The stored entries of a zip archive by their names, 64-bit sizes included: each a {@link SourceFile} over the archive's own bytes.
 * Throws `BAD_FILE`, and `UNSUPPORTED` for compressed or encrypted entries. Source: PKWARE's APPNOTE §4.3.
 */
export async function openZip(file: SourceFile, options: ReadOptions = {}): Promise<Map<string, SourceFile>> {
  const { count, start, bytes } = await readEnd(file, options);
  if (bytes > MAX_DIRECTORY_BYTES || start + bytes > file.sizeBytes) {
    throw zipError(file, "its list of entries must lie in the archive", `${bytes} bytes at ${start}`);
  }
  const list = await file.read(start, start + bytes, options);
  const view = new DataView(list.buffer, list.byteOffset, list.byteLength);
  const entries = new Map<string, SourceFile>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > bytes || view.getUint32(at, true) !== 0x02014b50)
      throw zipError(file, "its list must hold every entry", `${i} of ${count}`);
    const lengths = [28, 30, 32].map((field) => view.getUint16(at + field, true)) as [number, number, number];
    const next = at + 46 + lengths[0] + lengths[1] + lengths[2];
    if (next > bytes) throw zipError(file, "its list must hold every entry", `${i} of ${count}`);
    const name = new TextDecoder().decode(list.subarray(at + 46, at + 46 + lengths[0]));
    const entry = readEntry(view, at, lengths);
    if (view.getUint16(at + 10, true) !== 0 || (view.getUint16(at + 8, true) & 1) !== 0) {
      throw new HeedError(
        "UNSUPPORTED",
        `zip: entries must be stored as they are; got ${name} compressed or encrypted in ${file.name}.`,
      );
    }
    if (entry.offset + 30 + entry.sizeBytes > start)
      throw zipError(file, `${name} must lie in the archive`, `${entry.sizeBytes} bytes at ${entry.offset}`);
    entries.set(name, new ZipEntry(file, name, entry));
    at = next;
  }
  return entries;
}

/** The record at the end of the archive, whose comment may have up to 65,535 bytes. */
async function readEnd(
  file: SourceFile,
  options: ReadOptions,
): Promise<{ count: number; start: number; bytes: number }> {
  const tailStart = Math.max(0, file.sizeBytes - END_BYTES - 0xffff - LOCATOR_BYTES - END64_BYTES);
  const tail = await file.read(tailStart, file.sizeBytes, options);
  const view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength);
  let at = tail.length - END_BYTES;
  while (at >= 0 && view.getUint32(at, true) !== 0x06054b50) at--;
  if (at < 0) throw zipError(file, "it must end with a list of its entries", "none, so the file was cut short");
  const plain = {
    count: view.getUint16(at + 10, true),
    bytes: view.getUint32(at + 12, true),
    start: view.getUint32(at + 16, true),
  };
  const locator = at - LOCATOR_BYTES;
  if (locator < 0 || view.getUint32(locator, true) !== 0x07064b50) return plain;
  const wide = Number(view.getBigUint64(locator + 8, true)) - tailStart;
  if (!(wide >= 0 && wide + END64_BYTES <= tail.length) || view.getUint32(wide, true) !== 0x06064b50) {
    throw zipError(file, "its 64-bit end must be where it says", `${wide + tailStart}`);
  }
  const [count, bytes, start] = [32, 40, 48].map((field) => Number(view.getBigUint64(wide + field, true))) as [
    number,
    number,
    number,
  ];
  return { count, bytes, start };
}

/** Size and place of an entry; 64-bit ones stand in an extra field. */
function readEntry(
  view: DataView,
  at: number,
  lengths: readonly [number, number, number],
): { sizeBytes: number; offset: number } {
  let sizeBytes = view.getUint32(at + 24, true);
  let offset = view.getUint32(at + 42, true);
  const end = at + 46 + lengths[0] + lengths[1];
  for (let extra = at + 46 + lengths[0]; extra + 4 <= end; ) {
    const length = view.getUint16(extra + 2, true);
    if (view.getUint16(extra, true) === 1 && extra + 4 + length <= end) {
      const fields = [sizeBytes === 0xffffffff, view.getUint32(at + 20, true) === 0xffffffff, offset === 0xffffffff];
      let field = extra + 4;
      const wide = (needed: boolean | undefined): number | undefined => {
        if (!needed || field + 8 > extra + 4 + length) return undefined;
        field += 8;
        return Number(view.getBigUint64(field - 8, true));
      };
      sizeBytes = wide(fields[0]) ?? sizeBytes;
      wide(fields[1]);
      offset = wide(fields[2]) ?? offset;
    }
    extra += 4 + length;
  }
  return { sizeBytes, offset };
}

/** The bytes of a stored entry; where they begin is read with the first of them. */
class ZipEntry implements SourceFile {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #archive: SourceFile;
  readonly #offset: number;
  #dataStart: Promise<number> | undefined;

  constructor(archive: SourceFile, name: string, place: { sizeBytes: number; offset: number }) {
    this.name = `${archive.name}:${name}`;
    this.sizeBytes = place.sizeBytes;
    this.#archive = archive;
    this.#offset = place.offset;
  }

  async *stream(start: number, end: number, options: ReadOptions = {}): AsyncIterable<Uint8Array> {
    checkRange(this, start, end);
    const from = await this.#begin(options);
    yield* this.#archive.stream(from + start, from + end, options);
  }

  async read(start: number, end: number, options: ReadOptions = {}): Promise<Uint8Array> {
    checkRange(this, start, end);
    const from = await this.#begin(options);
    return this.#archive.read(from + start, from + end, options);
  }

  #begin(options: ReadOptions): Promise<number> {
    this.#dataStart ??= this.#readBegin(options).catch((error: unknown) => {
      this.#dataStart = undefined;
      throw error;
    });
    return this.#dataStart;
  }

  async #readBegin(options: ReadOptions): Promise<number> {
    const head = await this.#archive.read(this.#offset, this.#offset + 30, options);
    const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
    const start = this.#offset + 30 + view.getUint16(26, true) + view.getUint16(28, true);
    if (view.getUint32(0, true) !== 0x04034b50 || start + this.sizeBytes > this.#archive.sizeBytes) {
      throw zipError(this.#archive, `${this.name} must be where the list says`, `something else at ${this.#offset}`);
    }
    return start;
  }
}

function zipError(file: SourceFile, rule: string, got: string): HeedError {
  return new HeedError(
    "BAD_FILE",
    `zip: ${rule}; got ${got} in ${file.name}. The file is damaged: download or save it again.`,
  );
}
