import type { AttentionDims } from "./qk_scores.ts";

/**
 * `out[b, h, i] = Σ_j probs[b, h, i, j] · v[b, g, j]`, `g = ⌊h / (H / Hkv)⌋`; keys of weight 0 are not read.
 *
 * probs `[B, H, T, S]`, v `[B, Hkv, S, Dv]` → `[B, H, T, Dv]`.
 */
export function weightedSum(probs: Float64Array, v: Float64Array, dims: AttentionDims): Float64Array {
  const { B, H, Hkv, T, S, Dv } = dims;
  const out = new Float64Array(B * H * T * Dv);
  for (let row = 0; row < B * H * T; row++) {
    const values = valueHead(row, T, H, Hkv) * S * Dv;
    for (let j = 0; j < S; j++) {
      const p = probs[row * S + j]!;
      if (p === 0) continue;
      for (let d = 0; d < Dv; d++) out[row * Dv + d] = out[row * Dv + d]! + p * v[values + j * Dv + d]!;
    }
  }
  return out;
}

/**
 * Gradients of {@link weightedSum}: `dprobs = dout vᵀ`, `dv = probsᵀ dout`, summed over the query heads of a group.
 *
 * dout `[B, H, T, Dv]` → dprobs `[B, H, T, S]`, dv `[B, Hkv, S, Dv]`.
 */
export function weightedSumBackward(
  probs: Float64Array,
  v: Float64Array,
  dout: Float64Array,
  dims: AttentionDims,
): { dprobs: Float64Array; dv: Float64Array } {
  const { B, H, Hkv, T, S, Dv } = dims;
  const dprobs = new Float64Array(probs.length);
  const dv = new Float64Array(v.length);
  for (let row = 0; row < B * H * T; row++) {
    const values = valueHead(row, T, H, Hkv) * S * Dv;
    for (let j = 0; j < S; j++) {
      const p = probs[row * S + j]!;
      let dot = 0;
      for (let d = 0; d < Dv; d++) {
        const at = values + j * Dv + d;
        dot += dout[row * Dv + d]! * v[at]!;
        dv[at] = dv[at]! + p * dout[row * Dv + d]!;
      }
      dprobs[row * S + j] = dot;
    }
  }
  return { dprobs, dv };
}

/** Index over `[B, Hkv]` of the value head that row `(b · H + h) · T + i` reads. */
function valueHead(row: number, T: number, H: number, Hkv: number): number {
  const bh = Math.floor(row / T);
  return Math.floor(bh / H) * Hkv + Math.floor((bh % H) / (H / Hkv));
}
