/** How close is close enough: `|actual − expected| ≤ atol + rtol · |expected|`. */
export interface Tolerance {
  readonly atol: number;
  readonly rtol: number;
}

/** How far an output is from what was expected. */
export interface Comparison {
  readonly ok: boolean;
  readonly maxAbsoluteError: number;
  readonly maxRelativeError: number;
  /** The place of the largest excess over the tolerance, and the values there. */
  readonly worst?: { readonly index: number; readonly actual: number; readonly expected: number };
}

/** What is compared; `gradient` takes its tolerance from the largest expected value. */
export type Precision = "op" | "attention" | "gradient";

/** The published tolerances. f32 and f64 files alike are computed in f32; bf16 has an eighth of f16's precision. */
const TABLE: Record<"op" | "attention", Record<"f32" | "f16" | "bf16", Tolerance>> = {
  op: { f32: { atol: 1e-5, rtol: 1e-4 }, f16: { atol: 2e-3, rtol: 1e-2 }, bf16: { atol: 1.6e-2, rtol: 8e-2 } },
  attention: { f32: { atol: 1e-4, rtol: 1e-3 }, f16: { atol: 2e-3, rtol: 1e-2 }, bf16: { atol: 1.6e-2, rtol: 8e-2 } },
};

/** Masked scores are anything at or below this. */
const MASKED = -1e30;

/**
 * The tolerance of an output. `dtypes` are those of the case's arrays: the coarsest rules. `slack` is the least `atol`, for
 * errors that follow from the size of the inputs (large logits).
 */
export function toleranceOf(
  precision: Precision,
  dtypes: readonly string[],
  expected: ArrayLike<number>,
  slack = 0,
): Tolerance {
  const coarsest = dtypes.includes("bfloat16") ? "bf16" : dtypes.includes("float16") ? "f16" : "f32";
  if (precision !== "gradient") {
    const { atol, rtol } = TABLE[precision][coarsest];
    return { atol: Math.max(atol, slack), rtol };
  }
  const atol = Math.max(1e-4 * largest(expected), slack, coarsest === "f32" ? 0 : TABLE.op[coarsest].atol);
  // A gradient that is 0 throughout may still differ in the last bits of its terms.
  return { atol: Math.max(atol, 1e-12), rtol: coarsest === "f32" ? 1e-3 : TABLE.op[coarsest].rtol };
}

/** The largest finite size among numbers. */
export function largest(values: ArrayLike<number>): number {
  let max = 0;
  for (let i = 0; i < values.length; i++) {
    const size = Math.abs(values[i] as number);
    if (size > max && Number.isFinite(size) && size < -MASKED) max = size;
  }
  return max;
}

/** Compares numbers. NaN is close to NaN alone; an expected −∞ to anything ≤ −1e30. */
export function compare(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: Tolerance): Comparison {
  if (actual.length !== expected.length) {
    return { ok: false, maxAbsoluteError: Number.POSITIVE_INFINITY, maxRelativeError: Number.POSITIVE_INFINITY };
  }
  let [maxAbsoluteError, maxRelativeError, worstExcess, at] = [0, 0, 0, -1];
  for (let i = 0; i < actual.length; i++) {
    const [a, e] = [actual[i] as number, expected[i] as number];
    const error = differenceOf(a, e);
    maxAbsoluteError = Math.max(maxAbsoluteError, error);
    if (error > 0) maxRelativeError = Math.max(maxRelativeError, error / Math.max(Math.abs(e), tolerance.atol));
    const excess = error / (tolerance.atol + tolerance.rtol * Math.abs(e));
    if (error > 0 && !(excess <= worstExcess)) [worstExcess, at] = [excess, i];
  }
  const worst = at < 0 ? undefined : { index: at, actual: actual[at] as number, expected: expected[at] as number };
  return { ok: worstExcess <= 1, maxAbsoluteError, maxRelativeError, worst };
}

function differenceOf(actual: number, expected: number): number {
  if (Object.is(actual, expected) || actual === expected) return 0;
  if (expected <= MASKED) return actual <= MASKED ? 0 : Number.POSITIVE_INFINITY;
  const error = Math.abs(actual - expected);
  return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
}
