import { f16BitsToF32Bits, f32BitsToF16Bits } from "../formats/convert.ts";
import type { LoraMatrices } from "./lora_files.ts";

/** `W[rows] += scale · B · A` in f64, for weights in f32 or f16. */
export async function mergeLoraLayer({ module, a, b }: LoraMatrices, scale: number): Promise<void> {
  const { weight, rowStart, rows, columns } = module;
  const rank = a.length / columns;
  const bytes = await weight.read();
  const isHalf = weight.dtype === "f16";
  const old = isHalf ? halvesToFloats(new Uint16Array(bytes)) : new Float32Array(bytes);
  const merged = old.slice(rowStart * columns, (rowStart + rows) * columns);
  const sum = new Float64Array(columns);
  for (let row = 0; row < rows; row++) {
    sum.fill(0);
    for (let i = 0; i < rank; i++) {
      const factor = scale * (b[row * rank + i] ?? 0);
      for (let c = 0; c < columns; c++) sum[c] = (sum[c] ?? 0) + factor * (a[i * columns + c] ?? 0);
    }
    for (let c = 0; c < columns; c++) merged[row * columns + c] = (merged[row * columns + c] ?? 0) + (sum[c] ?? 0);
  }
  const data = isHalf ? floatsToHalves(merged) : merged;
  weight.write(
    rowStart * columns * data.BYTES_PER_ELEMENT,
    new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  );
}

function halvesToFloats(halves: Uint16Array): Float32Array<ArrayBuffer> {
  return new Float32Array(Uint32Array.from(halves, f16BitsToF32Bits).buffer);
}

/** f32 numbers as the bits of f16 ones. */
export function floatsToHalves(floats: Float32Array<ArrayBuffer>): Uint16Array<ArrayBuffer> {
  return Uint16Array.from(new Uint32Array(floats.buffer, floats.byteOffset, floats.length), f32BitsToF16Bits);
}
