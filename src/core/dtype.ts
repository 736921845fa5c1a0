/** Element types, as WGSL writes them. Arithmetic on `f16` accumulates in f32. */
export type DType = "f32" | "f16" | "i32" | "u32";

/** How a checkpoint stores a tensor; a superset of what a kernel computes with. */
export type StorageFormat = DType | "bf16" | "f64" | "i64" | "i16" | "i8" | "u8" | "bool";

const STORAGE_BYTES: Record<StorageFormat, number> = {
  f64: 8,
  i64: 8,
  f32: 4,
  i32: 4,
  u32: 4,
  f16: 2,
  bf16: 2,
  i16: 2,
  i8: 1,
  u8: 1,
  bool: 1,
};

/** Bytes of one element. */
export function bytesPerElement(format: StorageFormat): number {
  return STORAGE_BYTES[format];
}
