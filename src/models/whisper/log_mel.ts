import type { SoundFeatures } from "../speech_family.ts";

/** Samples of a window of the transform, and from one to the next (arXiv 2212.04356 §2.2: 25 and 10 ms). */
const WINDOW = 400;
export const HOP = 160;
const RATE = 16_000;
/** Frequencies of a window of real samples. */
const BINS = WINDOW / 2 + 1;
const PRIMES = [2, 3, 5];

/**
 * Whisper's features of 16 kHz sound: logarithms of the power in each of `mels` bands, `[samples / 160, mels]`, at most 8 powers of
 * ten below the loudest, brought to about −1 to 1. The sound is padded with silence, or cut, to `length` samples.
 * Source: Radford et al., "Whisper", arXiv 2212.04356 §2.2; the mel bands are those of Slaney's Auditory Toolbox (1998).
 */
export function logMel(
  sound: Float32Array,
  { mels, length }: { readonly mels: number; readonly length: number },
): SoundFeatures {
  const samples = new Float32Array(length);
  samples.set(sound.subarray(0, length));
  const frames = length / HOP;
  const bands = melBands(mels);
  const window = Float64Array.from({ length: WINDOW }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / WINDOW));
  const data = new Float32Array(frames * mels);
  let loudest = -Infinity;
  const spectrum = new Spectrum(WINDOW);
  const frame = new Float64Array(WINDOW);
  for (let t = 0; t < frames; t++) {
    for (let i = 0; i < WINDOW; i++) frame[i] = at(samples, t * HOP + i - WINDOW / 2) * (window[i] as number);
    const power = spectrum.power(frame);
    for (let m = 0; m < mels; m++) {
      const { first, weights } = bands[m] as Band;
      let sum = 0;
      for (let j = 0; j < weights.length; j++) sum += (weights[j] as number) * (power[first + j] as number);
      const value = Math.log10(Math.max(sum, 1e-10));
      loudest = Math.max(loudest, value);
      data[t * mels + m] = value;
    }
  }
  return { shape: [frames, mels], data: data.map((x) => (Math.max(x, loudest - 8) + 4) / 4) };
}

/** A sample, those before and after the sound being its mirror image. */
function at(samples: Float32Array, i: number): number {
  const last = samples.length - 1;
  const inside = i < 0 ? -i : i > last ? 2 * last - i : i;
  return samples[inside] ?? 0;
}

/** A band's weights from its first frequency on. */
interface Band {
  readonly first: number;
  readonly weights: Float64Array;
}

/** Triangles of equal area between neighbouring steps of the mel scale, from 0 to 8 kHz. */
function melBands(mels: number): Band[] {
  const top = hertzToMel(RATE / 2);
  const edges = Array.from({ length: mels + 2 }, (_, i) => melToHertz((top * i) / (mels + 1)));
  return Array.from({ length: mels }, (_, m) => {
    const [low, middle, high] = edges.slice(m, m + 3) as [number, number, number];
    const weights = Float64Array.from({ length: BINS }, (_, bin) => {
      const hertz = (bin * RATE) / WINDOW;
      const share = Math.min((hertz - low) / (middle - low), (high - hertz) / (high - middle));
      return Math.max(0, share) * (2 / (high - low));
    });
    const first = weights.findIndex((w) => w > 0);
    const last = weights.findLastIndex((w) => w > 0);
    return first < 0 ? { first: 0, weights: new Float64Array() } : { first, weights: weights.slice(first, last + 1) };
  });
}

/** Slaney's scale: linear below 1 kHz, logarithmic above. */
const MEL_HERTZ = 200 / 3;
const BREAK_HERTZ = 1000;
const BREAK_MEL = BREAK_HERTZ / MEL_HERTZ;
const LOG_STEP = Math.log(6.4) / 27;

function hertzToMel(hertz: number): number {
  return hertz < BREAK_HERTZ ? hertz / MEL_HERTZ : BREAK_MEL + Math.log(hertz / BREAK_HERTZ) / LOG_STEP;
}

function melToHertz(mel: number): number {
  return mel < BREAK_MEL ? mel * MEL_HERTZ : BREAK_HERTZ * Math.exp(LOG_STEP * (mel - BREAK_MEL));
}

/** The discrete Fourier transform of real numbers whose count has no prime factor above 5, by Cooley and Tukey's split. */
class Spectrum {
  readonly #size: number;
  readonly #cos: Float64Array;
  readonly #sin: Float64Array;

  constructor(size: number) {
    this.#size = size;
    this.#cos = Float64Array.from({ length: size }, (_, i) => Math.cos((2 * Math.PI * i) / size));
    this.#sin = Float64Array.from({ length: size }, (_, i) => -Math.sin((2 * Math.PI * i) / size));
  }

  /** `|X[k]|²` for the frequencies 0 to size / 2. */
  power(samples: Float64Array): Float64Array {
    const { real, imaginary } = this.#transform(samples, 0, 1, this.#size);
    return Float64Array.from(
      { length: this.#size / 2 + 1 },
      (_, k) => (real[k] as number) ** 2 + (imaginary[k] as number) ** 2,
    );
  }

  /** Of the `count` samples from `start` on, `stride` apart. */
  #transform(x: Float64Array, start: number, stride: number, count: number): Complex {
    const real = new Float64Array(count);
    const imaginary = new Float64Array(count);
    const radix = PRIMES.find((p) => count % p === 0);
    if (count === 1 || radix === undefined) {
      real[0] = x[start] as number;
      return { real, imaginary };
    }
    const part = count / radix;
    const parts = Array.from({ length: radix }, (_, r) => this.#transform(x, start + r * stride, stride * radix, part));
    const turn = this.#size / count;
    for (let k = 0; k < count; k++) {
      for (let r = 0; r < radix; r++) {
        const angle = ((r * k) % count) * turn;
        const { real: re, imaginary: im } = parts[r] as Complex;
        const [a, b] = [re[k % part] as number, im[k % part] as number];
        const [c, s] = [this.#cos[angle] as number, this.#sin[angle] as number];
        real[k] = (real[k] as number) + a * c - b * s;
        imaginary[k] = (imaginary[k] as number) + a * s + b * c;
      }
    }
    return { real, imaginary };
  }
}

interface Complex {
  readonly real: Float64Array;
  readonly imaginary: Float64Array;
}
