// dq[i] = scale · Σ_j ds[i, j] k[j],  ds = p ∘ (dout vᵀ − dots) ∘ cap′,  p = exp(score − lse): a query an invocation.
//
// in:  q, k, v (attention_heads.wgsl), dout, lse and dots of each row (attention_gradient.wgsl), table, mask
// out: out = dq [T, D] of each head
// One workgroup: WORKGROUP_SIZE queries of one head. One invocation: one query; keys pass in blocks of 8 or 16 whose scores
//   stay in registers. dq itself is the accumulator, as in attention_lanes.wgsl: one pipeline serves every D.
// Workgroup memory: 0 bytes.
// Preconditions: lse and dots come from the same specification; a row without keys has lse −1e30 and keeps none here.
// Source: Dao, "FlashAttention-2" (2023), §3.1, Alg. 2.

override WORKGROUP_SIZE: u32 = 32u;

const BLOCK: u32 = 8u * TURN_BLOCKS;
const STEPS = vec4<u32>(0u, 1u, 2u, 3u);

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
  let p = weights4(tile, head, vec4<u32>(position), keys, products, vec4<f32>(stats.x));
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
    let half = min(8u, spare);
    let k0 = k_at(tile, key_head, key);
    let k1 = k0 + half * params.k_row;
    let v0 = v_at(tile, key_head, key);
    let v1 = v0 + half * params.v_row;
    var s = mat4x4<f32>();
    for (var c = 0u; c < params.columns; c++) {
      let x = load_q(q_row, c);
      let y = load_k8(k0, spare, lane, c);
      s[0] = dots4(x, y[0], y[1], y[2], y[3], s[0]);
      s[1] = dots4(x, y[4], y[5], y[6], y[7], s[1]);
      if (TURN_BLOCKS == 2u) {
        let z = load_k8(k1, spare - half, lane, c);
        s[2] = dots4(x, z[0], z[1], z[2], z[3], s[2]);
        s[3] = dots4(x, z[4], z[5], z[6], z[7], s[3]);
      }
    }
    var d = mat4x4<f32>();
    for (var c = 0u; c < params.value_columns; c++) {
      let x = dout[dout_row + c];
      let y = load_v8(v0, spare, lane, c);
      d[0] = dots4(x, y[0], y[1], y[2], y[3], d[0]);
      d[1] = dots4(x, y[4], y[5], y[6], y[7], d[1]);
      if (TURN_BLOCKS == 2u) {
        let z = load_v8(v1, spare - half, lane, c);
        d[2] = dots4(x, z[0], z[1], z[2], z[3], d[2]);
        d[3] = dots4(x, z[4], z[5], z[6], z[7], d[3]);
      }
    }
    var w = mat4x4<f32>();
    w[0] = product_gradients(tile, head, position, key + STEPS, stats, s[0], d[0]);
    w[1] = product_gradients(tile, head, position, key + 4u + STEPS, stats, s[1], d[1]);
    if (TURN_BLOCKS == 2u) {
      w[2] = product_gradients(tile, head, position, key + 8u + STEPS, stats, s[2], d[2]);
      w[3] = product_gradients(tile, head, position, key + 12u + STEPS, stats, s[3], d[3]);
    }
    for (var c = 0u; c < params.columns; c++) {
      let y = load_k8(k0, spare, lane, c);
      // Before the first block `out` holds what the memory held before, NaN perhaps.
      var x = select(out[out_row + c], vec4<f32>(0.0), key == begin);
      x = mix4(w[1], y[4], y[5], y[6], y[7], mix4(w[0], y[0], y[1], y[2], y[3], x));
      if (TURN_BLOCKS == 2u) {
        let z = load_k8(k1, spare - half, lane, c);
        x = mix4(w[3], z[4], z[5], z[6], z[7], mix4(w[2], z[0], z[1], z[2], z[3], x));
      }
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
