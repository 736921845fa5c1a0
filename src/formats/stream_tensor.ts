import { bytesPerElement, type DType } from "../core/dtype.ts";
import { HeedError, throwIfAborted } from "../core/errors.ts";
import { formatShape, numel } from "../core/shape.ts";
import { lengthError, type ReadOptions } from "../core/source.ts";
import { converterFor } from "./convert.ts";
import type { TensorEntry } from "./safetensors.ts";

/** A run of converted elements, beginning with element `elementStart` of the row-major tensor. */
export interface TensorChunk {
  elementStart: number;
  /** Little-endian elements; its length is a multiple of 4, but for the last chunk's. Valid until the next chunk. */
  data: Uint8Array<ArrayBuffer>;
}

export interface StreamTensorOptions extends ReadOptions {
  /** Most bytes of one chunk after conversion; default 4 MiB. At least 16. */
  chunkBytes?: number;
}

const DEFAULT_CHUNK_BYTES = 4 * 2 ** 20;

/**
 * Streams a tensor's elements in order, converted to `dtype`, through two buffers that live as long as the stream:
 * the whole tensor is never in the heap. Every chunk but the last holds as many elements as fit in `chunkBytes`,
 * rounded down to a multiple of 4.
 *
 * Floats (f64 f32 f16 bf16) become f32 or f16, to nearest, ties to even; integers and booleans become i32 or u32.
 * Throws `UNSUPPORTED` for another pair, and where a finite value is beyond the target (f16 ends at 65504);
 * `BAD_FILE` for a file that ends too early; `ABORTED`.
 */
export async function* streamTensor(
  entry: TensorEntry,
  dtype: DType,
  options: StreamTensorOptions = {},
): AsyncGenerator<TensorChunk, void, void> {
  const { signal, chunkBytes = DEFAULT_CHUNK_BYTES } = options;
  const format = entry.format;
  const convert = converterFor(format, dtype, describe(entry));
  const inBytes = bytesPerElement(format);
  const outBytes = bytesPerElement(dtype);
  const total = numel(entry.shape);
  const perChunk = Math.min(total, Math.max(4, Math.floor(chunkBytes / outBytes / 4) * 4));
  const stage = new Uint8Array(perChunk * inBytes);
  const out = new Uint8Array(Math.ceil((perChunk * outBytes) / 4) * 4);
  let staged = 0;
  let elementStart = 0;
  const flush = (): TensorChunk => {
    const count = staged / inBytes;
    const bad = convert(stage, out, count);
    if (bad >= 0) throw rangeError(entry, dtype, elementStart + bad, stage.slice(bad * inBytes, (bad + 1) * inBytes));
    const chunk = { elementStart, data: out.subarray(0, count * outBytes) };
    elementStart += count;
    staged = 0;
    return chunk;
  };
  for await (const bytes of entry.file.stream(entry.start, entry.end, { signal })) {
    for (let at = 0; at < bytes.length; ) {
      const take = Math.min(bytes.length - at, stage.length - staged);
      stage.set(bytes.subarray(at, at + take), staged);
      at += take;
      staged += take;
      if (staged === stage.length) {
        yield flush();
        throwIfAborted(signal, `load ${entry.name}`);
      }
    }
  }
  if (elementStart * inBytes + staged !== total * inBytes) {
    throw lengthError(entry.file.name, total * inBytes, elementStart * inBytes + staged);
  }
  if (staged > 0) yield flush();
}

/** A whole tensor as f32, for small tensors and tests; errors as {@link streamTensor}. */
export async function readTensorF32(entry: TensorEntry, options: ReadOptions = {}): Promise<Float32Array<ArrayBuffer>> {
  const values = new Float32Array(numel(entry.shape));
  const bytes = new Uint8Array(values.buffer);
  for await (const { elementStart, data } of streamTensor(entry, "f32", options)) bytes.set(data, elementStart * 4);
  return values;
}

function rangeError(entry: TensorEntry, dtype: DType, index: number, element: Uint8Array): HeedError {
  const view = new DataView(element.buffer);
  const mend = dtype === "f16" ? " Load with dtype f32." : "";
  return new HeedError(
    "UNSUPPORTED",
    `streamTensor: every element must be representable as ${dtype}; got ${elementText(view, entry)} at element ${index} ` +
      `of ${describe(entry)}.${mend}`,
  );
}

function elementText(view: DataView, entry: TensorEntry): string {
  switch (entry.format) {
    case "f64":
      return `${view.getFloat64(0, true)}`;
    case "f32":
      return `${view.getFloat32(0, true)}`;
    case "bf16": {
      const wide = new DataView(new ArrayBuffer(4));
      wide.setUint16(2, view.getUint16(0, true), true);
      return `${wide.getFloat32(0, true)}`;
    }
    case "i64":
      return `${view.getBigInt64(0, true)}`;
    case "u32":
      return `${view.getUint32(0, true)}`;
    case "i32":
      return `${view.getInt32(0, true)}`;
    case "i16":
      return `${view.getInt16(0, true)}`;
    default:
      return `${view.getInt8(0)}`;
  }
}

function describe(entry: TensorEntry): string {
  return `${entry.name} ${formatShape(entry.shape)} ${entry.storedAs}`;
}
