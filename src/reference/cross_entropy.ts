/** Sizes and rules of the loss. */
export interface CrossEntropyOptions {
  N: number;
  V: number;
  /** Rows with this target count for nothing. Default −100, as in PyTorch. */
  ignoreIndex?: number;
  /** ε: the target distribution is `(1 − ε) · onehot + ε / V`. Default 0. */
  labelSmoothing?: number;
}

/**
 * Mean over the counted rows of `lse − Σ_v t[v] · logits[v]`, t the (smoothed) target distribution; and its gradient
 * `(softmax(logits) − t) / count`. With no counted row: loss 0 and gradient 0 (PyTorch gives NaN).
 *
 * logits `[N, V]`, targets `[N]` → losses `[N]` (0 where ignored), lse `[N]`, dlogits `[N, V]`.
 * Source of the smoothing: Szegedy et al., "Rethinking the Inception Architecture" (2016), §7.
 */
export function crossEntropy(
  logits: Float64Array,
  targets: ArrayLike<number>,
  options: CrossEntropyOptions,
): { loss: number; count: number; losses: Float64Array; lse: Float64Array; dlogits: Float64Array } {
  const { N, V, ignoreIndex = -100, labelSmoothing = 0 } = options;
  const losses = new Float64Array(N);
  const lse = new Float64Array(N);
  const dlogits = new Float64Array(N * V);
  let count = 0;
  for (let n = 0; n < N; n++) if (targets[n] !== ignoreIndex) count++;
  for (let n = 0; n < N; n++) {
    const row = logits.subarray(n * V, (n + 1) * V);
    lse[n] = logSumExp(row);
    if (targets[n] === ignoreIndex) continue;
    for (let v = 0; v < V; v++) {
      const t = labelSmoothing / V + (v === targets[n] ? 1 - labelSmoothing : 0);
      losses[n] = losses[n]! + t * (lse[n]! - row[v]!);
      dlogits[n * V + v] = (Math.exp(row[v]! - lse[n]!) - t) / count;
    }
  }
  const total = losses.reduce((a, b) => a + b, 0);
  return { loss: count === 0 ? 0 : total / count, count, losses, lse, dlogits };
}

/** `log Σ_v exp(row[v])`, about the largest entry. */
export function logSumExp(row: Float64Array): number {
  const max = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  return max + Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0));
}
