// Scores are scaled products: `factor` holds log₂ e too, so that exp2 does for exp.

fn final_scores(tile: Tile, head: u32, positions: vec4<u32>, keys: vec4<u32>, products: vec4<f32>) -> vec4<f32> {
  return products * params.factor;
}

// One of them.
fn final_score(tile: Tile, head: u32, position: u32, key: u32, product: f32) -> f32 {
  return product * params.factor;
}

// How final scores grow with scaled products.
fn final_slopes(products: vec4<f32>) -> vec4<f32> {
  return vec4<f32>(1.0);
}
