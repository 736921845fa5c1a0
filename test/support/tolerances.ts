/**
 * The one table of tolerances: `|actual − reference| ≤ atol + rtol · |reference|`.
 *
 * Where they come from. Unit roundoff u: f32 2⁻²⁴ ≈ 6e-8, f16 2⁻¹¹ ≈ 4.9e-4.
 * - A sum of K products in f32: independent roundings add up to about √K · u of the sum's size √K · |a||b|. For unit inputs
 *   and K ≤ 1024 that is 32 · 32 · u = 6e-5 absolute on values near 32; scaled down (norms, weights of size 1/√K): 2e-6.
 *   Larger or unscaled sums take {@link sumTolerance}.
 * - WGSL's accuracy table: exp errs by 3 + 2·|x| ulp, inverseSqrt by 2 ulp, tanh inherits from exp; at |x| ≤ 10 that is
 *   23 ulp = 2.8e-6 relative: 1e-5 and 1e-4 leave room. Cosines and sines come from the host, rounded once.
 * - Attention: a score's error δ is a relative error δ of its weight. |score| ≤ 10 at D = 64 gives δ = √64 · u · 10 = 5e-6,
 *   exp another 3e-6, both products another 2e-6: below 1e-4 absolute, 1e-3 relative.
 * - f16: inputs are rounded first and the reference gets the rounded values; sums are f32; the result is rounded once, and
 *   a few intermediates before it: 5e-4 each, so 1e-2 relative bounds up to 20 of them; 2e-3 absolute where values cancel.
 * - Logits: 1e-4 and 1e-3 in f32 is the bar for whole models.
 */
export interface Tolerance {
  readonly atol: number;
  readonly rtol: number;
}

/** dtypes that activations and weights may have in a test. */
export type TestDType = "f32" | "f16";

/** What is compared: any single op, attention and its pieces, or the logits of a whole model. */
export type ToleranceOf = "op" | "attention" | "logits";

const TABLE: Record<ToleranceOf, Record<TestDType, Tolerance>> = {
  op: { f32: { atol: 1e-5, rtol: 1e-4 }, f16: { atol: 2e-3, rtol: 1e-2 } },
  attention: { f32: { atol: 1e-4, rtol: 1e-3 }, f16: { atol: 2e-3, rtol: 1e-2 } },
  logits: { f32: { atol: 1e-4, rtol: 1e-3 }, f16: { atol: 2e-2, rtol: 2e-2 } },
};

/** Float64 reference gradients against central differences with step 1e-6 of its own forward. */
export const FINITE_DIFFERENCE = { eps: 1e-6, atol: 1e-5, rtol: 1e-3 } as const;

/** Rows of attention weights sum to 1 within this. */
export const ROW_SUM_ATOL = 1e-5;

/** The tolerance of `op` (default), `attention` or `logits` in the given dtype. */
export function tolerance(dtype: TestDType, of: ToleranceOf = "op"): Tolerance {
  return TABLE[of][dtype];
}

/**
 * The tolerance of attention's `out` for large logits. A score of size `maxScore`, summed over D products in f32, errs by
 * about √D · 2⁻²⁴ · maxScore; that is a relative error of each weight, so `out` errs by that times `maxValue` (twice, once
 * for the numerator and once for the denominator). Never below the plain tolerance of attention.
 */
export function attentionTolerance(
  dtype: TestDType,
  { D, maxScore, maxValue }: { D: number; maxScore: number; maxValue: number },
): Tolerance {
  const base = TABLE.attention[dtype];
  return { atol: Math.max(base.atol, 2 * Math.sqrt(D) * 2 ** -24 * maxScore * maxValue), rtol: base.rtol };
}

/**
 * The tolerance of an f32 sum of `K` products, each at most `maxTerm` in size: the worst case of recursive summation with
 * signs that cancel is K · 2⁻²⁴ · √K · maxTerm for partial sums of size √K · maxTerm; half of that is never reached by
 * rounding to nearest, and independent roundings give √K of it. The bound used, K · 2⁻²⁴ · maxTerm, is that last one.
 */
export function sumTolerance(dtype: TestDType, { K, maxTerm }: { K: number; maxTerm: number }): Tolerance {
  const base = TABLE.op[dtype];
  return { atol: Math.max(base.atol, K * 2 ** -24 * maxTerm), rtol: base.rtol };
}

/** Gradients on the GPU against the float64 reference: atol is 1e-4 of the largest reference value, rtol 1e-3. */
export function gradientTolerance(reference: ArrayLike<number>): Tolerance {
  let max = 0;
  for (let i = 0; i < reference.length; i++) max = Math.max(max, Math.abs(reference[i] as number));
  return { atol: 1e-4 * max, rtol: 1e-3 };
}

/**
 * A tensor's gradient within a whole model whose largest gradient is `largest`: as {@link gradientTolerance}, but never finer than 1e-6 of
 * `largest`, because terms of that size cancel to nothing where softmax leaves a bias without effect, and because reading a gradient as what a step
 * takes from a weight of size 1 rounds it to 6e-8.
 */
export function wholeModelGradientTolerance(reference: ArrayLike<number>, largest: number): Tolerance {
  const { atol, rtol } = gradientTolerance(reference);
  return { atol: Math.max(atol, 1e-6 * largest, 2 ** -22), rtol };
}
