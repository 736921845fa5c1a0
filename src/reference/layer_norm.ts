/** Sizes of a norm over the last axis: `N` rows of `C` channels. */
export interface LayerNormOptions {
  N: number;
  C: number;
  eps: number;
}

/**
 * `out = (x − mean) · rstd · weight + bias` with `rstd = 1 / √(var + eps)`; var is the biased
 * variance of the row, taken about its mean.
 *
 * x `[N, C]`, weight `[C]`, bias `[C]` or absent → out `[N, C]`, mean `[N]`, rstd `[N]`.
 * Source: Ba, Kiros and Hinton, "Layer Normalization" (2016), eq. 3–4.
 */
export function layerNorm(
  x: Float64Array,
  weight: Float64Array,
  options: LayerNormOptions & { bias?: Float64Array },
): { out: Float64Array; mean: Float64Array; rstd: Float64Array } {
  const { N, C, eps, bias } = options;
  const out = new Float64Array(N * C);
  const mean = new Float64Array(N);
  const rstd = new Float64Array(N);
  for (let n = 0; n < N; n++) {
    let sum = 0;
    for (let c = 0; c < C; c++) sum += x[n * C + c]!;
    const m = sum / C;
    let sumSquares = 0;
    for (let c = 0; c < C; c++) sumSquares += (x[n * C + c]! - m) ** 2;
    const r = 1 / Math.sqrt(sumSquares / C + eps);
    mean[n] = m;
    rstd[n] = r;
    for (let c = 0; c < C; c++) out[n * C + c] = (x[n * C + c]! - m) * r * weight[c]! + (bias ? bias[c]! : 0);
  }
  return { out, mean, rstd };
}

/**
 * Gradients of {@link layerNorm}: with `x̂ = (x − mean) · rstd` and `g = dout · weight`,
 * `dx = rstd · (g − mean(g) − x̂ · mean(g · x̂))`, `dweight = Σ_n dout · x̂`, `dbias = Σ_n dout`.
 *
 * x, dout `[N, C]`, weight `[C]` → dx `[N, C]`, dweight `[C]`, dbias `[C]`.
 */
export function layerNormBackward(
  x: Float64Array,
  weight: Float64Array,
  dout: Float64Array,
  options: LayerNormOptions,
): { dx: Float64Array; dweight: Float64Array; dbias: Float64Array } {
  const { N, C } = options;
  const { mean, rstd } = layerNorm(x, weight, options);
  const dx = new Float64Array(N * C);
  const dweight = new Float64Array(C);
  const dbias = new Float64Array(C);
  for (let n = 0; n < N; n++) {
    const r = rstd[n]!;
    let sumG = 0;
    let sumGx = 0;
    for (let c = 0; c < C; c++) {
      const i = n * C + c;
      const xhat = (x[i]! - mean[n]!) * r;
      sumG += dout[i]! * weight[c]!;
      sumGx += dout[i]! * weight[c]! * xhat;
      dweight[c] = dweight[c]! + dout[i]! * xhat;
      dbias[c] = dbias[c]! + dout[i]!;
    }
    for (let c = 0; c < C; c++) {
      const i = n * C + c;
      const xhat = (x[i]! - mean[n]!) * r;
      dx[i] = r * (dout[i]! * weight[c]! - sumG / C - (xhat * sumGx) / C);
    }
  }
  return { dx, dweight, dbias };
}
