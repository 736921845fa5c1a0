// T5's buckets of the distance key − query: half of them exact, the rest logarithmic up to max_distance.
//
// The linking kernel has params.buckets, params.max_distance and params.bidirectional (half of the buckets for keys after
// the query; otherwise those share bucket 0). Source: Raffel et al., "T5" (2020), §2.1.

fn relative_bucket(distance: i32) -> u32 {
  let is_two_sided = params.bidirectional != 0u;
  let buckets = select(params.buckets, params.buckets / 2u, is_two_sided);
  let n = u32(select(max(-distance, 0), abs(distance), is_two_sided));
  let exact = buckets / 2u;
  let ratio = log(f32(max(n, exact)) / f32(exact)) / log(f32(params.max_distance) / f32(exact));
  // A whole result must not fall below itself by the rounding of log; no other whole n comes so close to a border.
  let far = min(exact + u32(ratio * f32(buckets - exact) + 1e-5), buckets - 1u);
  return select(far, n, n < exact) + select(0u, buckets, is_two_sided & (distance > 0));
}
