/** T5's buckets of distances. */
export interface RelativeOptions {
  buckets: number;
  /** Half of the buckets are for keys after the query; otherwise those share bucket 0. */
  bidirectional: boolean;
  /** Distances from this one on share a bucket. */
  maxDistance: number;
}

/**
 * The bucket of the distance key − query: half of a side's buckets hold one distance each, the rest grow logarithmically.
 * Source: Raffel et al., "T5" (2020), §2.1.
 */
export function relativeBucket(distance: number, { buckets, bidirectional, maxDistance }: RelativeOptions): number {
  const side = bidirectional ? buckets / 2 : buckets;
  const base = bidirectional && distance > 0 ? side : 0;
  const n = bidirectional ? Math.abs(distance) : Math.max(-distance, 0);
  const exact = side / 2;
  if (n < exact) return base + n;
  // Least bucket whose border `exact · (maxDistance / exact)^(step / (side − exact))` is above n; whole borders belong to it.
  let step = 0;
  const border = (s: number) => exact * (maxDistance / exact) ** (s / (side - exact));
  while (step < side - exact - 1 && border(step + 1) <= n * (1 + 1e-12)) step++;
  return base + exact + step;
}

/** Gradient of the weight `[buckets, H]`: dscores `[B, H, T, S]` summed by bucket; queryStart of each sequence in `starts`. */
export function relativeBiasBackward(
  dscores: Float64Array,
  { B, H, T, S }: { B: number; H: number; T: number; S: number },
  options: RelativeOptions,
  starts: (b: number) => number,
): Float64Array {
  const dweight = new Float64Array(options.buckets * H);
  for (let b = 0, at = 0; b < B; b++) {
    for (let h = 0; h < H; h++) {
      for (let i = 0; i < T; i++) {
        for (let j = 0; j < S; j++, at++) {
          const to = relativeBucket(j - i - starts(b), options) * H + h;
          dweight[to] = dweight[to]! + dscores[at]!;
        }
      }
    }
  }
  return dweight;
}
