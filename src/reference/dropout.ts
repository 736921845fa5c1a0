/** Four 32-bit words. */
export type Words4 = readonly [number, number, number, number];

/** What a mask depends on, and nothing else: the same values give the same mask, so that backward can redraw it. */
export interface DropoutOptions {
  /** Probability of dropping, 0 ≤ p < 1. */
  p: number;
  /** Low and high word of the seed: the generator's key. */
  seed: readonly [number, number];
  /** Index of the recorded op: the counter's second word. */
  opId: number;
  /** Training step: the counter's third word. */
  step: number;
}

const MULTIPLIERS = [0xd2511f53, 0xcd9e8d57] as const;
const KEY_INCREMENTS = [0x9e3779b9, 0xbb67ae85] as const;
const ROUNDS = 10;

/**
 * Philox4x32-10: four random words from a counter and a key, in exact integer arithmetic.
 *
 * A round: with `(hi, lo)` the 64-bit products of words 0 and 2 with the two multipliers, the new counter is
 * `(hi2 ^ c1 ^ k0, lo2, hi0 ^ c3 ^ k1, lo0)`; the key grows by two constants between rounds.
 * Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (2011), §4.3.
 */
export function philox4x32(counter: Words4, key: readonly [number, number]): Words4 {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const hi0 = multiplyHigh(MULTIPLIERS[0], c0);
    const lo0 = Math.imul(MULTIPLIERS[0], c0) >>> 0;
    const hi2 = multiplyHigh(MULTIPLIERS[1], c2);
    const lo2 = Math.imul(MULTIPLIERS[1], c2) >>> 0;
    [c0, c1, c2, c3] = [(hi2 ^ c1 ^ k0) >>> 0, lo2, (hi0 ^ c3 ^ k1) >>> 0, lo0];
    k0 = (k0 + KEY_INCREMENTS[0]) >>> 0;
    k1 = (k1 + KEY_INCREMENTS[1]) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** The random word of one element: word `index mod 4` of Philox at counter `(⌊index / 4⌋, opId, step, 0)`, key `seed`. */
export function dropoutWord(index: number, { seed, opId, step }: DropoutOptions): number {
  const words = philox4x32([Math.floor(index / 4) >>> 0, opId >>> 0, step >>> 0, 0], seed);
  return words[index % 4]!;
}

/** True if the element is kept: its random word is at least `⌊p · 2³²⌋`. */
export function isDropoutKept(index: number, options: DropoutOptions): boolean {
  return dropoutWord(index, options) >= Math.floor(options.p * 2 ** 32);
}

/**
 * `out[i] = kept(i) ? x[i] / (1 − p) : 0`; any shape, i counts row-major.
 * Source: Srivastava et al., "Dropout" (2014), §10 (inverted: scaled in training).
 */
export function dropout(x: Float64Array, options: DropoutOptions): Float64Array {
  return x.map((value, i) => (isDropoutKept(i, options) ? value / (1 - options.p) : 0));
}

/** Gradient of {@link dropout}: the same mask and scale applied to `dout`. */
export function dropoutBackward(dout: Float64Array, options: DropoutOptions): Float64Array {
  return dropout(dout, options);
}

/** High 32 bits of the product of two unsigned words, by 16-bit halves: no step exceeds 2⁵³. */
function multiplyHigh(a: number, b: number): number {
  const aHigh = a >>> 16;
  const aLow = a & 0xffff;
  const bHigh = b >>> 16;
  const bLow = b & 0xffff;
  const middle = aHigh * bLow + Math.floor((aLow * bLow) / 2 ** 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 2 ** 16) + Math.floor(carry / 2 ** 16)) >>> 0;
}
