/** Element types, as WGSL writes them. Arithmetic on `f16` accumulates in f32. */
export type DType = "f32" | "f16" | "i32" | "u32";

/** Formats of weights that kernels read as a file stores them: a block of elements shares its scales. */
export type PackedFormat = "bf16" | "q8_0" | "q4_0" | "q4_k" | "q5_k" | "q6_k";

/** What the memory of a tensor may hold. */
export type TensorDType = DType | PackedFormat;

/** How a checkpoint stores a tensor; a superset of what a kernel computes with. */
export type StorageFormat = TensorDType | "f64" | "i64" | "i16" | "i8" | "u8" | "bool";

/** Bytes and elements of the smallest run that stands by itself. */
const BLOCKS: Record<StorageFormat, readonly [bytes: number, elements: number]> = {
  f64: [8, 1],
  i64: [8, 1],
  f32: [4, 1],
  i32: [4, 1],
  u32: [4, 1],
  f16: [2, 1],
  bf16: [2, 1],
  i16: [2, 1],
  i8: [1, 1],
  u8: [1, 1],
  bool: [1, 1],
  q8_0: [34, 32],
  q4_0: [18, 32],
  q4_k: [144, 256],
  q5_k: [176, 256],
  q6_k: [210, 256],
};

/** Bytes of one element; of the formats in blocks its share of a block's, which is exact in binary. */
export function bytesPerElement(format: StorageFormat): number {
  const [bytes, elements] = BLOCKS[format];
  return bytes / elements;
}

/** Elements that share a block, 1 where each stands for itself. A row is a whole number of blocks. */
export function blockElements(format: StorageFormat): number {
  return BLOCKS[format][1];
}

/** Bytes of a block. */
export function blockBytes(format: StorageFormat): number {
  return BLOCKS[format][0];
}

/** True for the formats that only weights have. */
export function isPacked(format: StorageFormat): format is PackedFormat {
  return format === "bf16" || blockElements(format) > 1;
}
