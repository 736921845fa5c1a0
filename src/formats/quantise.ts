import { blockBytes } from "../core/dtype.ts";
import { f32BitsToF16Bits } from "./convert.ts";

/** The packed formats that Heed makes at load. */
export type QuantisedFormat = "q8_0" | "q4_0";

const BLOCK = 32;
const bits = new DataView(new ArrayBuffer(4));

/**
 * f32 weights as blocks of 32: a count that is a multiple of 32 → `count / 32` blocks. Equal to GGUF's reference bit for bit.
 * `q8_0`: scale max|x| / 127, bytes to nearest, halves away from 0. `q4_0`: scale (x of the largest |x|) / −8, numbers 0 to 15.
 */
export function quantise(format: QuantisedFormat, values: Float32Array): Uint8Array<ArrayBuffer> {
  const bytes = blockBytes(format);
  const out = new Uint8Array((values.length / BLOCK) * bytes);
  const pack = format === "q8_0" ? packQ80 : packQ40;
  for (let block = 0; block * BLOCK < values.length; block++) {
    pack(values.subarray(block * BLOCK, (block + 1) * BLOCK), out.subarray(block * bytes, (block + 1) * bytes));
  }
  return out;
}

function packQ80(values: Float32Array, out: Uint8Array): void {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  const scale = Math.fround(largest / 127);
  const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
  writeHalf(out, scale);
  values.forEach((value, i) => {
    const scaled = Math.fround(value * inverse);
    out[2 + i] = Math.sign(scaled) * Math.floor(Math.fround(Math.abs(scaled)) + 0.5);
  });
}

function packQ40(values: Float32Array, out: Uint8Array): void {
  let largest = 0;
  for (const value of values) if (Math.abs(value) > Math.abs(largest)) largest = value;
  const scale = Math.fround(largest / -8);
  const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
  writeHalf(out, scale);
  for (let i = 0; i < 16; i++) {
    const low = fourBits((values[i] as number) * inverse);
    out[2 + i] = low | (fourBits((values[i + 16] as number) * inverse) << 4);
  }
}

function fourBits(scaled: number): number {
  return Math.min(15, Math.max(0, Math.trunc(scaled + 8.5)));
}

function writeHalf(out: Uint8Array, value: number): void {
  bits.setFloat32(0, value);
  const half = f32BitsToF16Bits(bits.getUint32(0));
  out[0] = half & 0xff;
  out[1] = half >> 8;
}
