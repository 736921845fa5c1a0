import { MASKED } from "./qk_scores.ts";

/**
 * `probs = exp(scores − lse)` with `lse = log Σ_j exp(scores[j])` over the kept keys of each row.
 *
 * A score ≤ −1e30 marks a masked key, whose weight is exactly 0. A row of masked keys only: weights 0, lse −1e30.
 * scores `[B, H, T, S]`, sinks `[H]` (one extra logit in the denominator) → probs `[B, H, T, S]`, lse `[B, H, T]`.
 * Source of the sink: "Efficient Streaming Language Models with Attention Sinks" (2023), §3.3; learned, as in gpt-oss.
 */
export function maskedSoftmax(
  scores: Float64Array,
  dims: { B: number; H: number; T: number; S: number },
  sinks?: Float64Array,
): { probs: Float64Array; lse: Float64Array } {
  const { B, H, T, S } = dims;
  const probs = new Float64Array(scores.length);
  const lse = new Float64Array(B * H * T);
  for (let row = 0; row < lse.length; row++) {
    const sink = sinks ? sinks[Math.floor(row / T) % H]! : MASKED;
    let max = sink;
    for (let j = 0; j < S; j++) max = Math.max(max, scores[row * S + j]!);
    if (max <= MASKED) {
      lse[row] = MASKED;
      continue;
    }
    let sum = sink > MASKED ? Math.exp(sink - max) : 0;
    for (let j = 0; j < S; j++) {
      const score = scores[row * S + j]!;
      const p = score <= MASKED ? 0 : Math.exp(score - max);
      probs[row * S + j] = p;
      sum += p;
    }
    lse[row] = max + Math.log(sum);
    for (let j = 0; j < S; j++) probs[row * S + j] = probs[row * S + j]! / sum;
  }
  return { probs, lse };
}

/**
 * Gradient of {@link maskedSoftmax}'s probs: `dscores = probs ∘ (dprobs − Σ_j probs ∘ dprobs)`; 0 where masked.
 *
 * probs, dprobs `[rows, S]` → `[rows, S]`.
 */
export function maskedSoftmaxBackward(probs: Float64Array, dprobs: Float64Array, S: number): Float64Array {
  const dscores = new Float64Array(probs.length);
  for (let row = 0; row < probs.length / S; row++) {
    let dot = 0;
    for (let j = 0; j < S; j++) dot += probs[row * S + j]! * dprobs[row * S + j]!;
    for (let j = 0; j < S; j++) dscores[row * S + j] = probs[row * S + j]! * (dprobs[row * S + j]! - dot);
  }
  return dscores;
}
