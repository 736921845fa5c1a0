// Scores after soft cap, ALiBi, bias and mask (attention_score.wgsl), times log₂ e last, so that exp2 does for exp.
//
// Element i belongs to the query at positions[i] and to keys[i]; what lies outside of the tensors is masked by the caller.

fn cap_ratio(scores: vec4<f32>) -> vec4<f32> {
  // Past ±15 tanh is ±1 in f32, and its exponentials would overflow.
  return tanh(clamp(scores / params.softcap, vec4<f32>(-15.0), vec4<f32>(15.0)));
}

// How final scores grow with scaled products.
fn final_slopes(products: vec4<f32>) -> vec4<f32> {
  if (params.softcap > 0.0) {
    let ratio = cap_ratio(products * params.factor);
    return 1.0 - ratio * ratio;
  }
  return vec4<f32>(1.0);
}

fn final_scores(tile: Tile, head: u32, positions: vec4<u32>, keys: vec4<u32>, products: vec4<f32>) -> vec4<f32> {
  var scores = products * params.factor;
  if (params.softcap > 0.0) {
    scores = params.softcap * cap_ratio(scores);
  }
  for (var i = 0u; i < 4u; i++) {
    let query = tile.first + positions[i] - tile.position;
    scores[i] = modified_score(tile.sequence, head, query, keys[i], positions[i], scores[i]);
  }
  return scores * 1.4426950408889634;
}

// One of them.
fn final_score(tile: Tile, head: u32, position: u32, key: u32, product: f32) -> f32 {
  var score = product * params.factor;
  if (params.softcap > 0.0) {
    score = params.softcap * cap_ratio(vec4<f32>(score)).x;
  }
  let query = tile.first + position - tile.position;
  return modified_score(tile.sequence, head, query, key, position, score) * 1.4426950408889634;
}
