/**
 * `out[n] = weight[ids[n]]`.
 *
 * ids `[N]`, weight `[V, C]` → `[N, C]`.
 */
export function embedding(ids: ArrayLike<number>, weight: Float64Array, options: { C: number }): Float64Array {
  const { C } = options;
  const out = new Float64Array(ids.length * C);
  for (let n = 0; n < ids.length; n++) {
    for (let c = 0; c < C; c++) out[n * C + c] = weight[ids[n]! * C + c]!;
  }
  return out;
}

/**
 * Gradient of {@link embedding}: `dweight[v] = Σ dout[n]` over the rows n with `ids[n] = v`, in the order of n.
 *
 * ids `[N]`, dout `[N, C]` → dweight `[V, C]`.
 */
export function embeddingBackward(
  ids: ArrayLike<number>,
  dout: Float64Array,
  options: { V: number; C: number },
): Float64Array {
  const { V, C } = options;
  const dweight = new Float64Array(V * C);
  for (let n = 0; n < ids.length; n++) {
    for (let c = 0; c < C; c++) {
      const i = ids[n]! * C + c;
      dweight[i] = dweight[i]! + dout[n * C + c]!;
    }
  }
  return dweight;
}
