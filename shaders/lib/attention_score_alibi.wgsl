// Scores with ALiBi: slope · (key − query). slopes [H] f32.
//
// Source: Press et al., "Train Short, Test Long" (2022), §3.

@group(0) @binding(9) var<storage, read> slopes: array<f32>;

fn modified_score(batch: u32, head: u32, query: u32, key: u32, position: u32, x: f32) -> f32 {
  return fma(slopes[head], f32(i32(key) - i32(position)), x);
}
