// dq[i] = scale · Σ_j ds[i, j] k[j],  ds = p ∘ (dout vᵀ − dots) ∘ cap′,  p = exp(score − lse): a query an invocation.
//
// in:  q, k, v (attention_heads.wgsl), dout, lse and dots of each row (attention_gradient.wgsl), table, mask
// out: out = dq [T, D] of each head
// One workgroup: WORKGROUP_SIZE queries of one head. One invocation: one query; keys pass in blocks of 8 whose scores
//   stay in registers. dq itself is the accumulator, as in attention_lanes.wgsl: one pipeline serves every D.
// Workgroup memory: 0 bytes.
// Preconditions: lse and dots come from the same specification; a row without keys has lse −1e30 and keeps none here.
// Source: Dao, "FlashAttention-2" (2023), §3.1, Alg. 2.

override WORKGROUP_SIZE: u32 = 32u;

const BLOCK: u32 = 8u;
// Keys of a block from its first on: the four first and the four last.
const LOW = vec4<u32>(0u, 1u, 2u, 3u);
const HIGH = vec4<u32>(4u, 5u, 6u, 7u);

// Dot products of x with four rows, added to `sum`.
fn dots4(x: vec4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
  return sum + vec4<f32>(dot(x, a), dot(x, b), dot(x, c), dot(x, d));
}

// Rows a..d weighted by w, added to `sum`.
fn mix4(w: vec4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
  return fma(vec4<f32>(w.w), d, fma(vec4<f32>(w.z), c, fma(vec4<f32>(w.y), b, fma(vec4<f32>(w.x), a, sum))));
}

// Gradients of four products of the query with keys, from the products and those of dout with values.
fn product_gradients(
  tile: Tile,
  head: u32,
  position: u32,
  keys: vec4<u32>,
  stats: vec2<f32>,
  products: vec4<f32>,
  dprobs: vec4<f32>,
) -> vec4<f32> {
  let scores = final_scores(tile, head, vec4<u32>(position), keys, products);
  let keeps = vec4<bool>(
    mask_keeps(position, keys.x, tile.keys, tile.prefix), mask_keeps(position, keys.y, tile.keys, tile.prefix),
    mask_keeps(position, keys.z, tile.keys, tile.prefix), mask_keeps(position, keys.w, tile.keys, tile.prefix));
  let p = select(vec4<f32>(0.0), exp2(scores - stats.x), keeps & (scores > vec4<f32>(MASKED)));
  return p * (dprobs - stats.y) * final_slopes(products) * params.scale;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let tile = tile_of(group.x, group.z, WORKGROUP_SIZE);
  let head = group.y;
  let key_head = head / params.group;
  let lane = block_lane();
  let end = mask_end(tile.position + tile.rows - 1u, tile.keys, tile.prefix);
  let begin = mask_begin(tile.position) / BLOCK * BLOCK;
  // Surplus rows compute the last one again and store nothing.
  let i = min(local, tile.rows - 1u);
  let position = tile.position + i;
  let q_row = q_at(tile, head, i);
  let dout_row = dout_at(tile, head, i);
  let out_row = out_at(tile, head, i);
  let stats = row_stats(row_index(tile, head, i));
  for (var key = begin; key < end; key += BLOCK) {
    // Past the end the last key stands in, so that nothing unwritten is read.
    let spare = end - key - 1u;
    let k_first = k_at(tile, key_head, key);
    let v_first = v_at(tile, key_head, key);
    var low = vec4<f32>(0.0);
    var high = vec4<f32>(0.0);
    for (var c = 0u; c < params.columns; c++) {
      let x = load_q(q_row, c);
      let y = load_k8(k_first, spare, lane, c);
      low = dots4(x, y[0], y[1], y[2], y[3], low);
      high = dots4(x, y[4], y[5], y[6], y[7], high);
    }
    var dlow = vec4<f32>(0.0);
    var dhigh = vec4<f32>(0.0);
    for (var c = 0u; c < params.value_columns; c++) {
      let x = dout[dout_row + c];
      let y = load_v8(v_first, spare, lane, c);
      dlow = dots4(x, y[0], y[1], y[2], y[3], dlow);
      dhigh = dots4(x, y[4], y[5], y[6], y[7], dhigh);
    }
    low = product_gradients(tile, head, position, key + LOW, stats, low, dlow);
    high = product_gradients(tile, head, position, key + HIGH, stats, high, dhigh);
    for (var c = 0u; c < params.columns; c++) {
      let y = load_k8(k_first, spare, lane, c);
      // Before the first block `out` holds what the memory held before, NaN perhaps.
      let sum = select(out[out_row + c], vec4<f32>(0.0), key == begin);
      let x = mix4(high, y[4], y[5], y[6], y[7], mix4(low, y[0], y[1], y[2], y[3], sum));
      if (local < tile.rows) {
        out[out_row + c] = x;
      }
    }
  }
  if (begin >= end && local < tile.rows) {
    for (var c = 0u; c < params.columns; c++) {
      out[out_row + c] = vec4<f32>(0.0);
    }
  }
}
