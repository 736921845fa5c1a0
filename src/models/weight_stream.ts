import { bytesPerElement, isPacked, type PackedFormat } from "../core/dtype.ts";
import { HeedError, throwIfAborted } from "../core/errors.ts";
import { formatShape, numel } from "../core/shape.ts";
import type { ReadOptions } from "../core/source.ts";
import { quantise } from "../formats/quantise.ts";
import type { TensorEntry } from "../formats/safetensors.ts";
import { streamTensor } from "../formats/stream_tensor.ts";
import { StridedFile } from "../formats/strided_file.ts";
import type { WeightRule } from "./family.ts";

/** What a load may ask for. */
export type LoadDType = "auto" | "f32" | "f16" | "q8_0" | "q4_0";

/** What weights are on the GPU. */
export type WeightDType = "f32" | "f16" | PackedFormat;

const CHUNK_BYTES = 4 * 2 ** 20;
/** Elements of a block of the formats that are made at load. */
const BLOCK = 32;

/** How each tensor of a rule is kept. Throws `UNSUPPORTED` where a file's blocks would have to be taken apart. */
export function loadedDTypes(
  family: string,
  rule: WeightRule,
  entries: readonly TensorEntry[],
  wanted: LoadDType,
): WeightDType[] {
  if (rule.role === "vector") return entries.map(() => "f32");
  const half = wanted === "f16" || (wanted === "auto" && entries.every((e) => e.format === "f16"));
  const plain = half ? "f16" : "f32";
  return entries.map((entry) => {
    const { format, linear } = entry;
    if (isPacked(format) && (format !== "bf16" || linear)) {
      if (wanted === "auto" || wanted === format) return format;
      if (format !== "bf16") {
        const rule = `${family}: the weights of a GGUF file are read as they are stored`;
        throw new HeedError(
          "UNSUPPORTED",
          `${rule}; got dtype ${wanted} for ${entry.name} in ${format}. Leave dtype out.`,
        );
      }
    }
    if (wanted !== "q8_0" && wanted !== "q4_0") return plain;
    // What has no whole number of blocks in a row stays as it is; so do tables that are no matrix.
    const quantised = rule.shape.length === 2 && (rule.shape[1] ?? 0) % BLOCK === 0;
    return quantised ? wanted : plain;
  });
}

/** A run of a weight's bytes as they go to the GPU. */
export interface WeightChunk {
  /** Bytes from the weight's first. A multiple of 4, as is the length of all but the last. */
  readonly at: number;
  /** Valid until the next chunk. */
  readonly data: Uint8Array<ArrayBuffer>;
}

/**
 * Streams a tensor's bytes for the GPU: blocks as they are, floats converted or quantised. `turned` matrices, which files hold
 * `[in, out]`, are turned on the way where they are quantised, because blocks run along the rows. Errors as `streamTensor`.
 */
export async function* streamWeight(
  entry: TensorEntry,
  dtype: WeightDType,
  options: ReadOptions & { readonly turned?: boolean } = {},
): AsyncGenerator<WeightChunk, void, void> {
  const { signal } = options;
  if (entry.format === dtype && isPacked(dtype)) {
    yield* streamBlocks(entry, options);
    return;
  }
  if (dtype === "q8_0" || dtype === "q4_0") {
    const source = options.turned && !entry.linear ? turnedEntry(entry) : entry;
    for await (const { elementStart, data } of streamTensor(source, "f32", { signal, chunkBytes: CHUNK_BYTES })) {
      const values = new Float32Array(data.buffer, data.byteOffset, data.byteLength / 4);
      checkFinite(entry, values);
      yield { at: elementStart * bytesPerElement(dtype), data: quantise(dtype, values) };
    }
    return;
  }
  const plain = dtype === "f16" ? "f16" : "f32";
  for await (const { elementStart, data } of streamTensor(entry, plain, { signal })) {
    yield { at: elementStart * bytesPerElement(plain), data };
  }
}

async function* streamBlocks(entry: TensorEntry, { signal }: ReadOptions): AsyncGenerator<WeightChunk, void, void> {
  const stage = new Uint8Array(Math.min(CHUNK_BYTES, Math.ceil((entry.end - entry.start) / 4) * 4));
  let at = 0;
  let staged = 0;
  for await (const bytes of entry.file.stream(entry.start, entry.end, { signal })) {
    for (let from = 0; from < bytes.length; ) {
      const take = Math.min(bytes.length - from, stage.length - staged);
      stage.set(bytes.subarray(from, from + take), staged);
      from += take;
      staged += take;
      if (staged < stage.length) continue;
      yield { at, data: stage };
      throwIfAborted(signal, `load ${entry.name}`);
      at += staged;
      staged = 0;
    }
  }
  if (staged > 0) yield { at, data: stage.subarray(0, staged) };
}

/** The transpose of a matrix, as if the file held that. */
function turnedEntry(entry: TensorEntry): TensorEntry {
  const [rows = 1, columns = 1] = entry.shape;
  const elementBytes = bytesPerElement(entry.format);
  const view = { start: entry.start, shape: [columns, rows], strides: [1, columns], elementBytes };
  const file = new StridedFile(entry.file, view);
  const { name, storedAs, format } = entry;
  return { name, storedAs, format, shape: [columns, rows], file, start: 0, end: numel(view.shape) * elementBytes };
}

function checkFinite(entry: TensorEntry, values: Float32Array): void {
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad < 0) return;
  throw new HeedError(
    "UNSUPPORTED",
    `load: weights to be quantised must be finite; got ${values[bad]} in ${entry.name} ${formatShape(entry.shape)}. Load with dtype f32.`,
  );
}
