import { layerNorm } from "./layer_norm.ts";

/**
 * `out = (x − mean) · rstd · weight[c] + bias[c]`, mean and variance over each group of neighbouring channels.
 *
 * x `[N, C, inner]`, weight and bias `[C]` → as x. Source: Wu and He, "Group Normalization" (2018), eq. 1, 2 and 7.
 */
export function groupNorm(
  x: Float64Array,
  weight: Float64Array,
  options: { N: number; C: number; inner: number; groups: number; eps: number; bias?: Float64Array },
): Float64Array {
  const { N, C, inner, groups, eps, bias } = options;
  const columns = (C / groups) * inner;
  const plain = layerNorm(x, new Float64Array(columns).fill(1), { N: N * groups, C: columns, eps }).out;
  return plain.map((y, i) => {
    const c = Math.floor(i / inner) % C;
    return y * weight[c]! + (bias ? bias[c]! : 0);
  });
}
