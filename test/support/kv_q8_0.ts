import { fromFloat16Bits, toFloat16Bits } from "./float16.ts";

const BLOCK = 32;
const WORDS = 9;

/** Numbers as a pool in q8_0 stores them, by the definition in float64: a count of whole blocks of 32 → 9 words a block. */
export function packQ80(x: ArrayLike<number>): Uint32Array {
  const words = new Uint32Array((x.length / BLOCK) * WORDS);
  const bytes = new Int8Array(words.buffer);
  const all = Float64Array.from(x);
  const largest = Float64Array.from({ length: x.length / BLOCK }, (_, block) =>
    all.subarray(block * BLOCK, (block + 1) * BLOCK).reduce((most, value) => Math.max(most, Math.abs(value)), 0),
  );
  // All at once: a conversion of its own for each block takes most of a test's time.
  const scales = toFloat16Bits(largest.map((most) => most / 127));
  largest.forEach((most, block) => {
    words[block * WORDS] = scales[block] as number;
    const inverse = most === 0 ? 0 : 127 / most;
    for (let i = 0; i < BLOCK; i++) {
      bytes[block * WORDS * 4 + 4 + i] = Math.round((all[block * BLOCK + i] as number) * inverse);
    }
  });
  return words;
}

/** The numbers that a pool in q8_0 stands for. */
export function unpackQ80(given: ArrayLike<number>): Float64Array {
  const words = Uint32Array.from(given);
  const bytes = new Int8Array(words.buffer);
  const blocks = words.length / WORDS;
  const scales = fromFloat16Bits(Uint16Array.from({ length: blocks }, (_, block) => words[block * WORDS] as number));
  return Float64Array.from({ length: blocks * BLOCK }, (_, i) => {
    const block = Math.floor(i / BLOCK);
    return (scales[block] as number) * (bytes[block * WORDS * 4 + 4 + (i % BLOCK)] as number);
  });
}

/** Numbers after they went through q8_0. */
export function roundToQ80(x: ArrayLike<number>): Float64Array {
  return unpackQ80(packQ80(x));
}
