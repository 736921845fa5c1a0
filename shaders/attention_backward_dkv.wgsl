// dk[j] = scale · Σ_i ds[i, j] q[i],  dv[j] = Σ_i p[i, j] dout[i], over the queries i of all heads that share the key head;
//   p = exp(score − lse),  ds = p ∘ (dout vᵀ − dots) ∘ cap′: a key an invocation.
//
// in:  q, k, v (attention_heads.wgsl), dout, lse and dots of each row (attention_gradient.wgsl), table, mask
// out: out = dk [S, D], dv [S, Dv] of each key head
// One workgroup: WORKGROUP_SIZE keys of one key head. One invocation: one key; queries pass in blocks of 8 or 16, whose
//   rows are loaded once a subgroup. dk and dv themselves are the accumulators. The order of the sums is that of head, query.
// Workgroup memory: 0 bytes.
// Preconditions: as attention_backward_dq.wgsl. Source: Dao, "FlashAttention-2" (2023), §3.1, Alg. 2.

override WORKGROUP_SIZE: u32 = 32u;

const BLOCK: u32 = 8u * TURN_BLOCKS;
const STEPS = vec4<u32>(0u, 1u, 2u, 3u);

@group(0) @binding(7) var<storage, read_write> dv: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let tile = tile_of(0u, group.z, params.queries);
  let key_head = group.y;
  let lane = block_lane();
  let first = group.x * WORKGROUP_SIZE;
  let is_stored = first + local < params.keys;
  // Surplus keys compute the last one again and store nothing.
  let key = min(first + local, params.keys - 1u);
  let k_row = k_at(tile, key_head, key);
  let v_row = v_at(tile, key_head, key);
  let dk_row = group.z * params.out_batch + key_head * params.out_head + key * params.out_row;
  let dv_row = group.z * params.dv_batch + key_head * params.dv_head + key * params.dv_row;
  let earliest = mask_query_begin(first, tile.prefix);
  let begin = earliest - min(earliest, tile.position);
  let until = mask_query_end(first + WORKGROUP_SIZE - 1u);
  // No query keeps a key past the end of the sequence.
  let end = select(min(tile.rows, until - min(until, tile.position)), 0u, first >= tile.keys);
  if (is_stored) {
    for (var c = 0u; c < params.columns; c++) {
      out[dk_row + c] = vec4<f32>(0.0);
    }
    for (var c = 0u; c < params.value_columns; c++) {
      dv[dv_row + c] = vec4<f32>(0.0);
    }
  }
  for (var head = key_head * params.group; head < (key_head + 1u) * params.group; head++) {
    for (var query = begin; query < end; query += BLOCK) {
      // Past the end the last query stands in.
      let spare = end - query - 1u;
      let half = min(8u, spare);
      let q0 = q_at(tile, head, query);
      let q1 = q0 + half * params.q_row;
      let d0 = dout_at(tile, head, query);
      let d1 = d0 + half * params.dout_row;
      var s = mat4x4<f32>();
      for (var c = 0u; c < params.columns; c++) {
        let x = load_k(k_row, c);
        let y = load_q8(q0, spare, lane, c);
        s[0] = dots4(x, y[0], y[1], y[2], y[3], s[0]);
        s[1] = dots4(x, y[4], y[5], y[6], y[7], s[1]);
        if (TURN_BLOCKS == 2u) {
          let z = load_q8(q1, spare - half, lane, c);
          s[2] = dots4(x, z[0], z[1], z[2], z[3], s[2]);
          s[3] = dots4(x, z[4], z[5], z[6], z[7], s[3]);
        }
      }
      var d = mat4x4<f32>();
      for (var c = 0u; c < params.value_columns; c++) {
        let x = load_v(v_row, c);
        let y = load_dout8(d0, spare, lane, c);
        d[0] = dots4(x, y[0], y[1], y[2], y[3], d[0]);
        d[1] = dots4(x, y[4], y[5], y[6], y[7], d[1]);
        if (TURN_BLOCKS == 2u) {
          let z = load_dout8(d1, spare - half, lane, c);
          d[2] = dots4(x, z[0], z[1], z[2], z[3], d[2]);
          d[3] = dots4(x, z[4], z[5], z[6], z[7], d[3]);
        }
      }
      let row = row_index(tile, head, query);
      let a = row_stats8(row, spare, lane);
      var lse = mat4x4<f32>(a[0].x, a[1].x, a[2].x, a[3].x, a[4].x, a[5].x, a[6].x, a[7].x, 0, 0, 0, 0, 0, 0, 0, 0);
      var dots = mat4x4<f32>(a[0].y, a[1].y, a[2].y, a[3].y, a[4].y, a[5].y, a[6].y, a[7].y, 0, 0, 0, 0, 0, 0, 0, 0);
      if (TURN_BLOCKS == 2u) {
        let b = row_stats8(row + half, spare - half, lane);
        lse[2] = vec4<f32>(b[0].x, b[1].x, b[2].x, b[3].x);
        lse[3] = vec4<f32>(b[4].x, b[5].x, b[6].x, b[7].x);
        dots[2] = vec4<f32>(b[0].y, b[1].y, b[2].y, b[3].y);
        dots[3] = vec4<f32>(b[4].y, b[5].y, b[6].y, b[7].y);
      }
      var p = mat4x4<f32>();
      var ds = mat4x4<f32>();
      for (var i = 0u; i < 2u * TURN_BLOCKS; i++) {
        let queries = query + 4u * i + STEPS;
        // Queries past the end may stand past the scores' tensors.
        let positions = tile.position + min(queries, vec4<u32>(end - 1u));
        let weights = weights4(tile, head, positions, vec4<u32>(key), s[i], lse[i]);
        p[i] = select(vec4<f32>(0.0), weights, queries < vec4<u32>(end));
        ds[i] = p[i] * (d[i] - dots[i]) * final_slopes(s[i]) * params.scale;
      }
      for (var c = 0u; c < params.columns; c++) {
        let y = load_q8(q0, spare, lane, c);
        var x = mix4(ds[1], y[4], y[5], y[6], y[7], mix4(ds[0], y[0], y[1], y[2], y[3], out[dk_row + c]));
        if (TURN_BLOCKS == 2u) {
          let z = load_q8(q1, spare - half, lane, c);
          x = mix4(ds[3], z[4], z[5], z[6], z[7], mix4(ds[2], z[0], z[1], z[2], z[3], x));
        }
        if (is_stored) {
          out[dk_row + c] = x;
        }
      }
      for (var c = 0u; c < params.value_columns; c++) {
        let y = load_dout8(d0, spare, lane, c);
        var x = mix4(p[1], y[4], y[5], y[6], y[7], mix4(p[0], y[0], y[1], y[2], y[3], dv[dv_row + c]));
        if (TURN_BLOCKS == 2u) {
          let z = load_dout8(d1, spare - half, lane, c);
          x = mix4(p[3], z[4], z[5], z[6], z[7], mix4(p[2], z[0], z[1], z[2], z[3], x));
        }
        if (is_stored) {
          dv[dv_row + c] = x;
        }
      }
    }
  }
}
