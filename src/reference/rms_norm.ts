/** Sizes of a norm over the last axis: `N` rows of `C` channels. */
export interface RmsNormOptions {
  N: number;
  C: number;
  eps: number;
}

/**
 * `out = x · rstd · weight` with `rstd = 1 / √(mean(x²) + eps)` of each row.
 *
 * x `[N, C]`, weight `[C]` → out `[N, C]`, rstd `[N]`.
 * Source: Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), eq. 4.
 */
export function rmsNorm(
  x: Float64Array,
  weight: Float64Array,
  options: RmsNormOptions,
): { out: Float64Array; rstd: Float64Array } {
  const { N, C, eps } = options;
  const out = new Float64Array(N * C);
  const rstd = new Float64Array(N);
  for (let n = 0; n < N; n++) {
    let sumSquares = 0;
    for (let c = 0; c < C; c++) sumSquares += x[n * C + c]! ** 2;
    const r = 1 / Math.sqrt(sumSquares / C + eps);
    rstd[n] = r;
    for (let c = 0; c < C; c++) out[n * C + c] = x[n * C + c]! * r * weight[c]!;
  }
  return { out, rstd };
}

/**
 * Gradients of {@link rmsNorm}: with `x̂ = x · rstd` and `g = dout · weight`,
 * `dx = rstd · (g − x̂ · mean(g · x̂))` and `dweight = Σ_n dout · x̂`.
 *
 * x, dout `[N, C]`, weight `[C]` → dx `[N, C]`, dweight `[C]`.
 */
export function rmsNormBackward(
  x: Float64Array,
  weight: Float64Array,
  dout: Float64Array,
  options: RmsNormOptions,
): { dx: Float64Array; dweight: Float64Array } {
  const { N, C } = options;
  const { rstd } = rmsNorm(x, weight, options);
  const dx = new Float64Array(N * C);
  const dweight = new Float64Array(C);
  for (let n = 0; n < N; n++) {
    const r = rstd[n]!;
    let dot = 0;
    for (let c = 0; c < C; c++) {
      const i = n * C + c;
      dot += dout[i]! * weight[c]! * x[i]! * r;
      dweight[c] = dweight[c]! + dout[i]! * x[i]! * r;
    }
    for (let c = 0; c < C; c++) {
      const i = n * C + c;
      dx[i] = r * (dout[i]! * weight[c]! - (x[i]! * r * dot) / C);
    }
  }
  return { dx, dweight };
}
