/** Zero crossings of the sinc on each side, and Kaiser's β: some 80 dB between what passes and what does not. */
const CROSSINGS = 32;
const BETA = 8;
/** Taps that are kept; filters of odd ratios have more, and theirs are computed when they are needed. */
const MOST_TAPS = 1 << 21;

/**
 * Changes the rate of sound by a windowed sinc: `out[m] = Σ_k x[k] · h(m·down − k·up)`, h being a low-pass of Kaiser's window at the
 * lower of both rates. Sound beyond the ends is silence. `from` and `to` are whole numbers of samples a second; the result
 * has `⌈length · to / from⌉` samples. Source: Oppenheim and Schafer, "Discrete-Time Signal Processing", §4.6 and §7.5.3.
 */
export function resample(samples: Float32Array<ArrayBuffer>, from: number, to: number): Float32Array<ArrayBuffer> {
  if (from === to) return samples;
  const divisor = greatestCommonDivisor(from, to);
  const [up, down] = [to / divisor, from / divisor];
  const half = CROSSINGS * Math.max(up, down);
  const tap = lowPass(half, Math.max(up, down));
  const out = new Float32Array(Math.ceil((samples.length * up) / down));
  for (let m = 0; m < out.length; m++) {
    const centre = m * down;
    const first = Math.max(0, Math.ceil((centre - half) / up));
    const last = Math.min(samples.length - 1, Math.floor((centre + half) / up));
    let sum = 0;
    for (let k = first; k <= last; k++) sum += (samples[k] as number) * tap(Math.abs(centre - k * up));
    out[m] = sum * up;
  }
  return out;
}

/** The filter by the distance from its middle, with a sum of 1. */
function lowPass(half: number, most: number): (distance: number) => number {
  const scale = besselI0(BETA);
  const value = (distance: number): number => {
    const x = (Math.PI * distance) / most;
    const window = besselI0(BETA * Math.sqrt(Math.max(0, 1 - (distance / half) ** 2))) / scale;
    return (distance === 0 ? 1 : Math.sin(x) / x) * window;
  };
  // Without rounding the sum is that of the sinc's samples; it is taken where it is cheap.
  if (half >= MOST_TAPS) return (distance) => value(distance) / most;
  const taps = Float64Array.from({ length: half + 1 }, (_, distance) => value(distance));
  const sum = taps.reduce((total, t, distance) => total + (distance === 0 ? t : 2 * t), 0);
  return (distance) => (taps[distance] as number) / sum;
}

/** The modified Bessel function of order 0, by its series. */
function besselI0(x: number): number {
  let [sum, term] = [1, 1];
  for (let k = 1; term > sum * 1e-17; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
