/**
 * Which two channels turn together. `half`: channel i with i + R/2 (GPT-NeoX, Llama as the Hub
 * stores it). `interleaved`: channel 2i with 2i + 1 (the paper, GPT-J, llama2.c).
 */
export type RopeForm = "half" | "interleaved";

/** Sizes of a rotary embedding. */
export interface RopeDims {
  /** Rows of tokens. */
  N: number;
  /** Heads of each row. */
  H: number;
  /** Head size; channels beyond the rotated pairs are copied unchanged. */
  D: number;
  form: RopeForm;
}

/** Sizes and angles of a rotary embedding. */
export interface RopeOptions extends RopeDims {
  /** `[N]`: the position of each row. */
  positions: ArrayLike<number>;
  /** `[R/2]`, radians per position; R ≤ D channels are rotated. */
  inverseFrequencies: ArrayLike<number>;
  /** Multiplies cosine and sine (YaRN's attention factor). Default 1. */
  factor?: number;
}

/** Cosines and sines `[N, R/2]` of each row's angles, times the factor. */
export interface RopeTable {
  cos: Float64Array;
  sin: Float64Array;
}

/** `inverseFrequencies[i] = theta^(−2i/R)` for i in 0…R/2−1: the unscaled list of the paper, §3.4.3. */
export function ropeInverseFrequencies(theta: number, R: number): Float64Array {
  return Float64Array.from({ length: R / 2 }, (_, i) => theta ** ((-2 * i) / R));
}

/** The table of a list of positions: `cos, sin (positions[n] · inverseFrequencies[i]) · factor`, `[N, R/2]` each. */
export function ropeTable(options: Omit<RopeOptions, keyof RopeDims>): RopeTable {
  const { positions, inverseFrequencies, factor = 1 } = options;
  const pairs = inverseFrequencies.length;
  const angles = Float64Array.from(
    { length: positions.length * pairs },
    (_, at) => positions[Math.floor(at / pairs)]! * inverseFrequencies[at % pairs]!,
  );
  return { cos: angles.map((angle) => Math.cos(angle) * factor), sin: angles.map((angle) => Math.sin(angle) * factor) };
}

/**
 * Turns each pair of channels (a, b) of row n by `φ = positions[n] · inverseFrequencies[i]`:
 * `a' = a cos φ − b sin φ`, `b' = b cos φ + a sin φ`, times `factor`.
 *
 * x `[N, H, D]` → `[N, H, D]`.
 * Source: Su et al., "RoFormer" (2021), §3.2.2 and eq. 34.
 */
export function rope(x: Float64Array, options: RopeOptions): Float64Array {
  return ropeByTable(x, ropeTable(options), options);
}

/** Gradient of {@link rope}: the rotation by −φ, times `factor`. dout `[N, H, D]` → dx `[N, H, D]`. */
export function ropeBackward(dout: Float64Array, options: RopeOptions): Float64Array {
  const { cos, sin } = ropeTable(options);
  return ropeByTable(dout, { cos, sin: sin.map((value) => -value) }, options);
}

/** The rotation of {@link rope} by given cosines and sines. x `[N, H, D]` → `[N, H, D]`. */
export function ropeByTable(x: Float64Array, { cos, sin }: RopeTable, { N, H, D, form }: RopeDims): Float64Array {
  const pairs = cos.length / N;
  const out = Float64Array.from(x);
  for (let n = 0; n < N; n++) {
    for (let h = 0; h < H; h++) {
      const head = (n * H + h) * D;
      for (let i = 0; i < pairs; i++) {
        const a = head + (form === "half" ? i : 2 * i);
        const b = head + (form === "half" ? i + pairs : 2 * i + 1);
        const [c, s] = [cos[n * pairs + i]!, sin[n * pairs + i]!];
        out[a] = x[a]! * c - x[b]! * s;
        out[b] = x[b]! * c + x[a]! * s;
      }
    }
  }
  return out;
}
