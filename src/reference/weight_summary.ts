/** What {@link weightSummary} computes of one row of attention weights. */
export interface WeightSummaryResult {
  /** In nats. */
  entropy: number;
  /** The weight of key 0. */
  first: number;
  /** Of the query's position to the keys, in tokens. */
  distance: number;
  /** Keys with a weight above 0 by falling weight, the first of equals first; at most `top`. */
  topKeys: number[];
}

/** `entropy = −Σ_j w_j ln w_j`, `first = w_0`, `distance = Σ_j w_j |p − j|` of weights `[S]` of a query at position p. */
export function weightSummary(weights: Float64Array, position: number, top: number): WeightSummaryResult {
  let entropy = 0;
  let distance = 0;
  weights.forEach((w, j) => {
    if (w > 0) entropy -= w * Math.log(w);
    distance += w * Math.abs(position - j);
  });
  const keys = [...weights.keys()].filter((j) => (weights[j] ?? 0) > 0);
  keys.sort((a, b) => (weights[b] ?? 0) - (weights[a] ?? 0) || a - b);
  return { entropy, first: weights[0] ?? 0, distance, topKeys: keys.slice(0, top) };
}
