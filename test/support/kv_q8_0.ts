import { fromFloat16Bits, toFloat16Bits } from "./float16.ts";

const BLOCK = 32;
const WORDS = 9;

/** Numbers as a pool in q8_0 stores them, by the definition in float64: a count of whole blocks of 32 → 9 words a block. */
export function packQ80(x: ArrayLike<number>): Uint32Array {
  const words = new Uint32Array((x.length / BLOCK) * WORDS);
  const bytes = new Int8Array(words.buffer);
  for (let block = 0; block * BLOCK < x.length; block++) {
    const values = Float64Array.from({ length: BLOCK }, (_, i) => x[block * BLOCK + i] as number);
    const largest = Math.max(...values.map(Math.abs));
    words[block * WORDS] = toFloat16Bits([largest / 127])[0] as number;
    const inverse = largest === 0 ? 0 : 127 / largest;
    values.forEach((value, i) => {
      bytes[block * WORDS * 4 + 4 + i] = Math.round(value * inverse);
    });
  }
  return words;
}

/** The numbers that a pool in q8_0 stands for. */
export function unpackQ80(given: ArrayLike<number>): Float64Array {
  const words = Uint32Array.from(given);
  const bytes = new Int8Array(words.buffer);
  return Float64Array.from({ length: (words.length / WORDS) * BLOCK }, (_, i) => {
    const block = Math.floor(i / BLOCK) * WORDS;
    const scale = fromFloat16Bits(Uint16Array.of((words[block] as number) & 0xffff))[0] as number;
    return scale * (bytes[block * 4 + 4 + (i % BLOCK)] as number);
  });
}

/** Numbers after they went through q8_0. */
export function roundToQ80(x: ArrayLike<number>): Float64Array {
  return unpackQ80(packQ80(x));
}
