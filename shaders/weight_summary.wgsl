// Per row of attention weights w at query position p:  stats = (−Σ_j w_j · ln w_j,  w_0,  Σ_j w_j · |p − j|)  and the
// `top` keys of the largest weights, the first of equals first.
//
// in:  weights [rows, keys] f32; places u32: the position of row r, the (r % queries)-th of batch r / batch_rows, is
//      places[(r / batch_rows · queries + r % queries) · place_stride + place_offset]
// out: stats [rows, 3] f32 (nats, share, tokens); top_keys [rows, top] u32 and top_weights [rows, top] f32, the key
//      0xffffffff and weight 0 where fewer keys than `top` have a weight
// One workgroup: WORKGROUP_SIZE / ROW_LANES rows, ROW_LANES invocations each. One invocation: every ROW_LANES-th key,
// once for stats and once for each of the top keys.
// Workgroup memory: that of the reduction.
// Preconditions: keys < 2^24, so that an index is exact as f32.

const NO_KEY: u32 = 0xffffffffu;
const NO_INDEX: f32 = -1e30;

struct Params {
  rows: u32,
  keys: u32,
  top: u32,
  queries: u32,
  batch_rows: u32,
  place_stride: u32,
  place_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> places: array<u32>;
@group(0) @binding(3) var<storage, read_write> stats: array<f32>;
@group(0) @binding(4) var<storage, read_write> top_keys: array<u32>;
@group(0) @binding(5) var<storage, read_write> top_weights: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let index = (group.y * groups.x + group.x) * (WORKGROUP_SIZE / ROW_LANES) + local / ROW_LANES;
  // Surplus rows repeat the last one and store nothing: barriers may follow.
  let row = min(index, params.rows - 1u);
  let lane = local % ROW_LANES;
  let stores = index < params.rows && lane == 0u;
  let place = row / params.batch_rows * params.queries + row % params.queries;
  let position = f32(places[place * params.place_stride + params.place_offset]);
  let first = row * params.keys;
  var entropy = 0.0;
  var distance = 0.0;
  for (var j = lane; j < params.keys; j += ROW_LANES) {
    let weight = weights[first + j];
    // The logarithm of 0 is not taken: it need not be a number.
    entropy -= weight * log(max(weight, 1e-37));
    distance += weight * abs(position - f32(j));
  }
  let row_entropy = workgroup_sum(entropy, local);
  let row_distance = workgroup_sum(distance, local);
  if (stores) {
    stats[row * 3u] = row_entropy;
    stats[row * 3u + 1u] = weights[first];
    stats[row * 3u + 2u] = row_distance;
  }
  // The key before in the order of falling weights and rising indices.
  var last_weight = 2.0;
  var last_key = 0u;
  for (var rank = 0u; rank < params.top; rank++) {
    var best = 0.0;
    var best_key = 0u;
    for (var j = lane; j < params.keys; j += ROW_LANES) {
      let weight = weights[first + j];
      let follows = weight < last_weight || (weight == last_weight && j > last_key);
      if (follows && weight > best) {
        best = weight;
        best_key = j;
      }
    }
    last_weight = workgroup_max(best, local);
    last_key = u32(-workgroup_max(select(NO_INDEX, -f32(best_key), best == last_weight), local));
    if (stores) {
      top_keys[row * params.top + rank] = select(NO_KEY, last_key, last_weight > 0.0);
      top_weights[row * params.top + rank] = last_weight;
    }
  }
}
