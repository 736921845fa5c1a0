import { f16BitsToF32Bits } from "../formats/convert.ts";
import type { LoraMatrices } from "./lora_files.ts";
import { floatsToHalves } from "./weight_places.ts";

/** `W[rows] += scale · B · A` in f64, and then each row at DoRA's length, for weights in f32 or f16. */
export async function mergeLoraLayer({ module, a, b, magnitude }: LoraMatrices, scale: number): Promise<void> {
  const { weight, rowStart, rows, columns } = module;
  const rank = a.length / columns;
  const bytes = await weight.read();
  const isHalf = weight.dtype === "f16";
  const old = floatsOf(new Uint8Array(bytes), isHalf);
  const merged = old.slice(rowStart * columns, (rowStart + rows) * columns);
  for (let row = 0; row < rows; row++) {
    const sum = Float64Array.from(merged.subarray(row * columns, (row + 1) * columns));
    for (let i = 0; i < rank; i++) {
      const factor = scale * (b[row * rank + i] ?? 0);
      for (let c = 0; c < columns; c++) sum[c] = (sum[c] ?? 0) + factor * (a[i * columns + c] ?? 0);
    }
    if (magnitude) {
      const gain = (magnitude[row] ?? 0) / (Math.sqrt(sum.reduce((all, value) => all + value * value, 0)) || 1);
      for (let c = 0; c < columns; c++) sum[c] = (sum[c] ?? 0) * gain;
    }
    merged.set(sum, row * columns);
  }
  const data = isHalf ? floatsToHalves(merged) : merged;
  weight.write(
    rowStart * columns * data.BYTES_PER_ELEMENT,
    new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  );
}

/** The numbers of f32 weights, or of f16 ones. */
export function floatsOf(bytes: Uint8Array<ArrayBuffer>, isHalf: boolean): Float32Array<ArrayBuffer> {
  if (!isHalf) return new Float32Array(bytes.buffer);
  return new Float32Array(Uint32Array.from(new Uint16Array(bytes.buffer), f16BitsToF32Bits).buffer);
}
