// Scores with T5's relative position bias, weight [buckets, H] f32; goes with relative_bucket.wgsl.
//
// Source: Raffel et al., "T5" (2020), §2.1.

@group(0) @binding(9) var<storage, read> relative_weight: array<f32>;

fn modified_score(batch: u32, head: u32, query: u32, key: u32, position: u32, x: f32) -> f32 {
  return x + relative_weight[relative_bucket(i32(key) - i32(position)) * params.heads + head];
}
