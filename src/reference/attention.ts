import { maskedSoftmax, maskedSoftmaxBackward } from "./masked_softmax.ts";
import { type AttentionDims, MASKED, type QkScoresOptions, qkScores, qkScoresBackward } from "./qk_scores.ts";
import { weightedSum, weightedSumBackward } from "./weighted_sum.ts";

/** What {@link attention} takes beyond q, k and v: scores, masks (see {@link qkScores}), and sinks. */
export interface AttentionOptions extends QkScoresOptions {
  /** `[H]`: one extra logit a head, in the denominator only. */
  sinks?: Float64Array;
  /** `hard`: the one-hot of the largest score, the first of equals; backward as if soft. Default `soft`. */
  selection?: "soft" | "hard";
  /** `[B, H, T, S]`: factors of the weights, 0 or `1 / (1 − rate)`. */
  dropout?: Float64Array;
}

/** What {@link attention} returns. */
export interface AttentionResult {
  /** `[B, H, T, Dv]`; 0 for a row with no kept key. */
  out: Float64Array;
  /** `[B, H, T]`: natural log of the sum of `exp(score)` (sink included); −1e30 for a row with no kept key and no sink. */
  lse: Float64Array;
  /** `[B, H, T, S]`; exactly 0 where masked; the soft weights for hard selection too. */
  probs: Float64Array;
  /** `[B, H, T, S]`: after scale, soft cap, ALiBi and bias; −1e30 where masked. */
  scores: Float64Array;
}

/**
 * `out = softmax(mask(scale · q kᵀ)) v`, query head h on key head `⌊h / (H / Hkv)⌋`.
 *
 * q `[B, H, T, D]`, k `[B, Hkv, S, D]`, v `[B, Hkv, S, Dv]`.
 * Source: Vaswani et al., "Attention Is All You Need" (2017), eq. 1; grouped heads: Ainslie et al., "GQA" (2023), §2.2.
 */
export function attention(
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  dims: AttentionDims,
  options: AttentionOptions = {},
): AttentionResult {
  const scores = qkScores(q, k, dims, options);
  const { probs, lse } = maskedSoftmax(scores, dims, options.sinks);
  return { out: weightedSum(summed(probs, scores, dims, options), v, dims), lse, probs, scores };
}

/** The weights by which values are summed. */
function summed(
  probs: Float64Array,
  scores: Float64Array,
  { S }: AttentionDims,
  { selection, dropout }: AttentionOptions,
): Float64Array {
  const weights = selection === "hard" ? scores.map((_, at) => (isLargest(scores, at, S) ? 1 : 0)) : probs;
  return dropout ? weights.map((p, at) => p * dropout[at]!) : weights;
}

function isLargest(scores: Float64Array, at: number, S: number): boolean {
  const score = scores[at]!;
  const first = at - (at % S);
  for (let i = first; i < first + S; i++) if (scores[i]! > score || (i < at && scores[i] === score)) return false;
  return score > MASKED;
}

/** Gradients of {@link attention}. */
export interface AttentionGradients {
  /** `[B, H, T, D]` */
  dq: Float64Array;
  /** `[B, Hkv, S, D]` */
  dk: Float64Array;
  /** `[B, Hkv, S, Dv]` */
  dv: Float64Array;
  /** `[B, H, T, S]`: of the scores after soft cap, ALiBi and bias; the bias' gradient before its broadcast is summed. */
  dscores: Float64Array;
  /** `[H]`, zeros without sinks. */
  dsinks: Float64Array;
}

/**
 * Gradients of {@link attention}: `dv = probsᵀ dout`, `dprobs = dout vᵀ`,
 * `dscores = probs ∘ (dprobs − Σ_j probs ∘ dprobs)`, and those of {@link qkScores}; all 0 where masked.
 *
 * dout `[B, H, T, Dv]`. Source: Dao, "FlashAttention-2" (2023), §2.2.
 */
export function attentionBackward(
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  dout: Float64Array,
  dims: AttentionDims,
  options: AttentionOptions = {},
): AttentionGradients {
  const { probs, lse, scores } = attention(q, k, v, dims, options);
  const { dprobs: dweights, dv } = weightedSumBackward(summed(probs, scores, dims, options), v, dout, dims);
  const { dropout } = options;
  const dprobs = dropout ? dweights.map((d, at) => d * dropout[at]!) : dweights;
  const dscores = maskedSoftmaxBackward(probs, dprobs, dims.S);
  const dsinks = sinksBackward(probs, dprobs, lse, dims, options.sinks);
  return { ...qkScoresBackward(q, k, dscores, dims, options), dv, dscores, dsinks };
}

/** `dsink[h] = −Σ exp(sink − lse) · Σ_j probs ∘ dprobs`, over the rows of head h: the sink's value is 0. */
function sinksBackward(
  probs: Float64Array,
  dprobs: Float64Array,
  lse: Float64Array,
  { H, T, S }: AttentionDims,
  sinks: Float64Array | undefined,
): Float64Array {
  const dsinks = new Float64Array(H);
  if (!sinks) return dsinks;
  for (let row = 0; row < lse.length; row++) {
    const h = Math.floor(row / T) % H;
    let dot = 0;
    for (let j = 0; j < S; j++) dot += probs[row * S + j]! * dprobs[row * S + j]!;
    dsinks[h] = dsinks[h]! - Math.exp(sinks[h]! - lse[row]!) * dot;
  }
  return dsinks;
}
