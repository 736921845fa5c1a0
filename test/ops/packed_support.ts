import { blockBytes, blockElements, type PackedFormat } from "../../src/core/dtype.ts";
import { dequantise } from "../../src/reference/dequantise.ts";
import { linear } from "../../src/reference/matmul.ts";
import { toFloat16Bits } from "../support/float16.ts";
import type { Random } from "../support/random.ts";

/** Every packed format that kernels read. */
export const PACKED_FORMATS: readonly PackedFormat[] = ["bf16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k"];

/** Where each format has f16 numbers in its blocks. */
const HALVES: Readonly<Record<PackedFormat, readonly number[]>> = {
  bf16: [],
  q8_0: [0],
  q4_0: [0],
  q4_k: [0, 2],
  q5_k: [0, 2],
  q6_k: [208],
};

/** Rows of a packed weight: its bytes, and its numbers. */
export interface PackedRows {
  readonly data: Uint16Array;
  readonly values: Float32Array;
}

/** Random blocks whose weights are about as large as a trained model's. */
export function drawPacked(format: PackedFormat, elements: number, random: Random): PackedRows {
  const bytes = blockBytes(format);
  const blocks = new Uint8Array((elements / blockElements(format)) * bytes);
  for (let i = 0; i < blocks.length; i++) blocks[i] = random.int(0, 255);
  for (let at = 0; at < blocks.length; at += bytes) {
    const scales = toFloat16Bits(random.normals(2, 1 / 64));
    HALVES[format].forEach((place, i) => {
      blocks[at + place] = (scales[i] ?? 0) & 0xff;
      blocks[at + place + 1] = (scales[i] ?? 0) >> 8;
    });
    if (format === "bf16") blocks[at + 1] = random.int(0, 1) * 0x80 + random.int(0x3b, 0x3e);
  }
  return { data: new Uint16Array(blocks.buffer), values: dequantise(format, blocks) };
}

/** Squared error of a product over the square of the product in float64. */
export function normalisedError(actual: Float32Array, expected: Float64Array): number {
  let error = 0;
  let size = 0;
  expected.forEach((value, i) => {
    error += ((actual[i] as number) - value) ** 2;
    size += value ** 2;
  });
  return error / size;
}

/** `x · weightᵀ` in float64. */
export function packedProduct(
  x: Float64Array,
  values: Float32Array,
  sizes: { readonly N: number; readonly K: number; readonly M: number },
): Float64Array {
  return linear(x, Float64Array.from(values), { N: sizes.N, I: sizes.K, O: sizes.M });
}
