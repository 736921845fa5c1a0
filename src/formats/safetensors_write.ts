import { bytesPerElement, type PackedFormat, type StorageFormat } from "../core/dtype.ts";
import { HeedError } from "../core/errors.ts";
import { formatShape, numel } from "../core/shape.ts";

/** Formats in blocks are not the format's. */
type WritableFormat = Exclude<StorageFormat, PackedFormat> | "bf16";

/** One tensor to write: row-major, little-endian. */
export interface TensorToWrite {
  format: WritableFormat;
  shape: readonly number[];
  /** Exactly the tensor's bytes, as any view of them (a `Float32Array` for f32, and so on). */
  data: ArrayBufferView;
}

const DTYPES: Record<WritableFormat, string> = {
  f64: "F64",
  f32: "F32",
  f16: "F16",
  bf16: "BF16",
  i64: "I64",
  i32: "I32",
  u32: "U32",
  i16: "I16",
  i8: "I8",
  u8: "U8",
  bool: "BOOL",
};

/**
 * Writes a safetensors file as chunks in order: the header, padded with spaces to a multiple of 8 bytes, then each
 * tensor's bytes, uncopied. Tensors are ordered by falling element size, then by name, so that every one is aligned and
 * the same tensors always give the same bytes; metadata is ordered by key. Throws `SHAPE` where data and shape differ.
 */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, TensorToWrite>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array[] {
  const ordered = [...tensors].sort(
    ([a, x], [b, y]) => bytesPerElement(y.format) - bytesPerElement(x.format) || compare(a, b),
  );
  const pairs: string[] = [];
  const notes = Object.entries(metadata).sort(([a], [b]) => compare(a, b));
  if (notes.length > 0) {
    pairs.push(`"__metadata__":{${notes.map(([k, v]) => `${JSON.stringify(k)}:${JSON.stringify(v)}`).join(",")}}`);
  }
  let at = 0;
  for (const [name, { format, shape, data }] of ordered) {
    const bytes = numel(shape) * bytesPerElement(format);
    if (data.byteLength !== bytes || name === "__metadata__") {
      const got = `${JSON.stringify(name)} ${formatShape(shape)} ${format} with ${data.byteLength} bytes`;
      throw new HeedError("SHAPE", `encodeSafetensors: data must be as long as shape and format say; got ${got}.`);
    }
    const value = JSON.stringify({ dtype: DTYPES[format], shape, data_offsets: [at, at + bytes] });
    pairs.push(`${JSON.stringify(name)}:${value}`);
    at += bytes;
  }
  const json = new TextEncoder().encode(`{${pairs.join(",")}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  const header = new Uint8Array(8 + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, 8);
  const bodies = ordered.map(([, { data }]) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return [header, ...bodies];
}

/** Order by UTF-16 units: the same on every machine, unlike `localeCompare`. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
