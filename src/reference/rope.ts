/**
 * Which two channels turn together. `half`: channel i with i + R/2 (GPT-NeoX, Llama as the Hub
 * stores it). `interleaved`: channel 2i with 2i + 1 (the paper, GPT-J, llama2.c).
 */
export type RopeForm = "half" | "interleaved";

/** Sizes and angles of a rotary embedding. */
export interface RopeOptions {
  /** Rows of tokens. */
  N: number;
  /** Heads of each row. */
  H: number;
  /** Head size. Channels from `2 · inverseFrequencies.length` on are copied unchanged. */
  D: number;
  form: RopeForm;
  /** `[N]`: the position of each row. */
  positions: ArrayLike<number>;
  /** `[R/2]`, radians per position; R ≤ D channels are rotated. */
  inverseFrequencies: ArrayLike<number>;
  /** Multiplies cosine and sine (YaRN's attention factor). Default 1. */
  factor?: number;
}

/** `inverseFrequencies[i] = theta^(−2i/R)` for i in 0…R/2−1: the unscaled list of the paper, §3.4.3. */
export function ropeInverseFrequencies(theta: number, R: number): Float64Array {
  return Float64Array.from({ length: R / 2 }, (_, i) => theta ** ((-2 * i) / R));
}

/**
 * Turns each pair of channels (a, b) of row n by `φ = positions[n] · inverseFrequencies[i]`:
 * `a' = a cos φ − b sin φ`, `b' = b cos φ + a sin φ`, times `factor`.
 *
 * x `[N, H, D]` → `[N, H, D]`.
 * Source: Su et al., "RoFormer" (2021), §3.2.2 and eq. 34.
 */
export function rope(x: Float64Array, options: RopeOptions): Float64Array {
  return rotate(x, options, 1);
}

/** Gradient of {@link rope}: the rotation by −φ, times `factor`. dout `[N, H, D]` → dx `[N, H, D]`. */
export function ropeBackward(dout: Float64Array, options: RopeOptions): Float64Array {
  return rotate(dout, options, -1);
}

function rotate(x: Float64Array, options: RopeOptions, sign: 1 | -1): Float64Array {
  const { N, H, D, form, positions, inverseFrequencies, factor = 1 } = options;
  const pairs = inverseFrequencies.length;
  const out = Float64Array.from(x);
  for (let n = 0; n < N; n++) {
    for (let i = 0; i < pairs; i++) {
      const angle = positions[n]! * inverseFrequencies[i]!;
      const cos = Math.cos(angle) * factor;
      const sin = Math.sin(angle) * factor * sign;
      for (let h = 0; h < H; h++) {
        const head = (n * H + h) * D;
        const ia = head + (form === "half" ? i : 2 * i);
        const ib = head + (form === "half" ? i + pairs : 2 * i + 1);
        out[ia] = x[ia]! * cos - x[ib]! * sin;
        out[ib] = x[ib]! * cos + x[ia]! * sin;
      }
    }
  }
  return out;
}
