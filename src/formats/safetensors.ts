import { bytesPerElement, type StorageFormat } from "../core/dtype.ts";
import { HeedError } from "../core/errors.ts";
import { formatShape } from "../core/shape.ts";
import type { ReadOptions, SourceFile } from "../core/source.ts";
import { headerError, readHeaderLength, readPairs } from "./safetensors_header.ts";

/** Where one tensor of a checkpoint lies: bytes `[start, end)` of `file`, row-major, little-endian. */
export interface TensorEntry {
  readonly name: string;
  /**
   * How the elements are stored. Reading this throws `UNSUPPORTED` for an element type that Heed cannot read (see
   * {@link TensorEntry.storedAs}): a file may hold such tensors as long as nobody asks for them.
   */
  readonly format: StorageFormat;
  /** The element type as the file writes it, such as `BF16` or `F8_E4M3`. Never throws. */
  readonly storedAs: string;
  readonly shape: number[];
  readonly file: SourceFile;
  readonly start: number;
  readonly end: number;
  /** A matrix that lies as `[out, in]` where the Hub's own file of the model has `[in, out]` (GGUF). */
  readonly linear?: boolean;
}

/** What a safetensors header says: tensors in the order of their bytes, and the file's own notes. */
export interface SafetensorsHeader {
  tensors: Map<string, TensorEntry>;
  /** The strings under `__metadata__`; an object without prototype. */
  metadata: Record<string, string>;
}

const FORMATS: ReadonlyMap<string, StorageFormat> = new Map<string, StorageFormat>([
  ["F64", "f64"],
  ["F32", "f32"],
  ["F16", "f16"],
  ["BF16", "bf16"],
  ["I64", "i64"],
  ["I32", "i32"],
  ["U32", "u32"],
  ["I16", "i16"],
  ["I8", "i8"],
  ["U8", "u8"],
  ["BOOL", "bool"],
]);

/** Bits of the element types that the format knows and Heed does not read: their byte ranges are still checked. */
const OTHER_BITS: ReadonlyMap<string, number> = new Map([
  ["U16", 16],
  ["U64", 64],
  ["C64", 64],
  ["F8_E5M2", 8],
  ["F8_E4M3", 8],
  ["F8_E8M0", 8],
  ["F6_E2M3", 6],
  ["F6_E3M2", 6],
  ["F4", 4],
]);

const MAX_DIMS = 8;
const MAX_DIM = 2 ** 32;
/** Far beyond any one file; what bounds the memory that a hostile header can ask for. */
const MAX_TENSORS = 2 ** 16;
const MAX_NAME_LENGTH = 512;

/**
 * Reads and checks the header of a safetensors file: 8 bytes of length, a JSON object, then the tensors' bytes without
 * overlap, hole or rest. Only the header is read, a window at a time. A tensor's offset must be a multiple of its
 * element size. Throws `BAD_FILE` naming the rule that is broken.
 * Source: the safetensors format description and the rules of its Rust `validate`.
 */
export async function readSafetensorsHeader(file: SourceFile, options: ReadOptions = {}): Promise<SafetensorsHeader> {
  const headerBytes = await readHeaderLength(file, options);
  const dataStart = 8 + headerBytes;
  const entries: TensorEntry[] = [];
  const names = new Set<string>();
  let metadata: Record<string, string> = Object.create(null);
  for await (const pairs of readPairs(file, headerBytes, options)) {
    for (const { name, value } of pairs) {
      if (names.has(name)) throw headerError(file, "a name occurs once", `${shown(name)} twice`);
      if (name.length > MAX_NAME_LENGTH) {
        throw headerError(file, `a name has at most ${MAX_NAME_LENGTH} characters`, `${name.length}`);
      }
      if (names.size > MAX_TENSORS) throw headerError(file, `a file has at most ${MAX_TENSORS} tensors`, "more");
      names.add(name);
      if (name === "__metadata__") metadata = readMetadata(file, value);
      else entries.push(readEntry({ file, dataStart, name, value }));
    }
  }
  // Empty tensors share their start with the next one, so the end decides between them.
  entries.sort((a, b) => a.start - b.start || a.end - b.end);
  checkLayout(file, entries, dataStart);
  return { tensors: new Map(entries.map((entry) => [entry.name, entry])), metadata };
}

function readMetadata(file: SourceFile, value: Record<string, unknown>): Record<string, string> {
  const metadata: Record<string, string> = Object.create(null);
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string")
      throw headerError(file, "__metadata__ holds strings", `${typeof text} at ${shown(key)}`);
    metadata[key] = text;
  }
  return metadata;
}

interface EntrySource {
  file: SourceFile;
  dataStart: number;
  name: string;
  value: Record<string, unknown>;
}

function readEntry({ file, dataStart, name, value }: EntrySource): TensorEntry {
  const fail = (rule: string, got: string) => headerError(file, `tensor ${shown(name)}: ${rule}`, got);
  for (const key of Object.keys(value)) {
    if (key !== "dtype" && key !== "shape" && key !== "data_offsets") {
      throw fail("its keys are dtype, shape and data_offsets", shown(key));
    }
  }
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== "string" || dtype.length > 32) throw fail("dtype is a short string", shown(dtype));
  if (!Array.isArray(shape) || shape.length > MAX_DIMS || !shape.every((d) => isWhole(d, MAX_DIM))) {
    throw fail(`shape has at most ${MAX_DIMS} whole numbers up to ${MAX_DIM}`, shown(shape));
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every((o) => isWhole(o, Number.MAX_SAFE_INTEGER))) {
    throw fail("data_offsets has two whole numbers", shown(offsets));
  }
  const [begin, end] = offsets as [number, number];
  const dataBytes = file.sizeBytes - dataStart;
  if (begin > end) throw fail("data_offsets run upwards", `[${begin}, ${end}]`);
  if (end > dataBytes) {
    throw fail(`its bytes lie in the file's ${dataBytes} data bytes`, `[${begin}, ${end}], so the file was cut short`);
  }
  const format = FORMATS.get(dtype);
  const bits = format ? bytesPerElement(format) * 8 : OTHER_BITS.get(dtype);
  if (bits !== undefined) {
    const bytes = checkedBytes(shape, bits);
    if (bytes !== end - begin)
      throw fail(`${dtype} ${formatShape(shape)} has ${bytes ?? "too many"} bytes`, `${end - begin}`);
    if ((begin * 8) % bits !== 0) throw fail(`its offset is a multiple of ${bits / 8}`, `${begin}`);
  }
  const place = { name, storedAs: dtype, shape, file, start: dataStart + begin, end: dataStart + end };
  return format ? { ...place, format } : new UnreadableTensor(place);
}

/** A tensor of an element type that Heed cannot read: there to be listed; asking for its format throws. */
class UnreadableTensor implements TensorEntry {
  readonly name: string;
  readonly storedAs: string;
  readonly shape: number[];
  readonly file: SourceFile;
  readonly start: number;
  readonly end: number;

  constructor(place: Omit<TensorEntry, "format">) {
    this.name = place.name;
    this.storedAs = place.storedAs;
    this.shape = place.shape;
    this.file = place.file;
    this.start = place.start;
    this.end = place.end;
  }

  get format(): StorageFormat {
    throw new HeedError(
      "UNSUPPORTED",
      `safetensors: tensor ${shown(this.name)} must be stored as ${[...FORMATS.keys()].join(", ")}; ` +
        `got ${this.storedAs} in ${this.file.name}. Use a checkpoint saved in BF16, F16 or F32.`,
    );
  }
}

/** Bytes of a tensor of `bits`-wide elements, or `undefined` where that is no safe integer. */
function checkedBytes(shape: number[], bits: number): number | undefined {
  if (shape.includes(0)) return 0;
  let elements = 1;
  for (const d of shape) {
    elements *= d;
    // Doubles are exact up to here, so one comparison per factor is a true overflow check.
    if (elements * bits > Number.MAX_SAFE_INTEGER) return undefined;
  }
  return (elements * bits) % 8 === 0 ? (elements * bits) / 8 : undefined;
}

function checkLayout(file: SourceFile, entries: TensorEntry[], dataStart: number): void {
  let at = dataStart;
  for (const entry of entries) {
    if (entry.start !== at) {
      const what = entry.start < at ? "an overlap" : "a hole";
      throw headerError(file, "tensors lie one behind the other", `${what} before ${shown(entry.name)}`);
    }
    at = entry.end;
  }
  if (at !== file.sizeBytes) {
    throw headerError(file, "a file ends with its last tensor", `${file.sizeBytes - at} bytes after it`);
  }
}

function isWhole(value: unknown, max: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= max;
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}
