// dk[j] = scale · Σ_i ds[i, j] q[i],  dv[j] = Σ_i p[i, j] dout[i], over the queries i of all heads that share the key head;
//   p = exp(score − lse),  ds = p ∘ (dout vᵀ − dots) ∘ cap′: a key an invocation.
//
// in:  q, k, v (attention_heads.wgsl), dout, lse and dots of each row (attention_gradient.wgsl), table, mask
// out: out = dk [S, D], dv [S, Dv] of each key head
// One workgroup: WORKGROUP_SIZE keys of one key head. One invocation: one key; queries pass in blocks of 4, whose
//   addresses the workgroup shares. dk and dv themselves are the accumulators. The order of the sums is that of head, query.
// Workgroup memory: 0 bytes.
// Preconditions: as attention_backward_dq.wgsl. Source: Dao, "FlashAttention-2" (2023), §3.1, Alg. 2.

override WORKGROUP_SIZE: u32 = 32u;

const STEPS = vec4<u32>(0u, 1u, 2u, 3u);

@group(0) @binding(7) var<storage, read_write> dv: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let tile = tile_of(0u, group.z, params.queries);
  let key_head = group.y;
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
    for (var query = begin; query < end; query += 4u) {
      let rows = min(query + STEPS, vec4<u32>(end - 1u));
      let q0 = q_at(tile, head, rows.x);
      let q1 = q_at(tile, head, rows.y);
      let q2 = q_at(tile, head, rows.z);
      let q3 = q_at(tile, head, rows.w);
      var products = vec4<f32>(0.0);
      for (var c = 0u; c < params.columns; c++) {
        let x = load_k(k_row, c);
        products += vec4<f32>(dot(x, load_q(q0, c)), dot(x, load_q(q1, c)), dot(x, load_q(q2, c)), dot(x, load_q(q3, c)));
      }
      let d0 = dout_at(tile, head, rows.x);
      let d1 = dout_at(tile, head, rows.y);
      let d2 = dout_at(tile, head, rows.z);
      let d3 = dout_at(tile, head, rows.w);
      var dprobs = vec4<f32>(0.0);
      for (var c = 0u; c < params.value_columns; c++) {
        let x = load_v(v_row, c);
        dprobs += vec4<f32>(dot(x, dout[d0 + c]), dot(x, dout[d1 + c]), dot(x, dout[d2 + c]), dot(x, dout[d3 + c]));
      }
      let positions = tile.position + query + STEPS;
      let scores = final_scores(tile, head, positions, vec4<u32>(key), products);
      let a = row_stats(row_index(tile, head, rows.x));
      let b = row_stats(row_index(tile, head, rows.y));
      let d = row_stats(row_index(tile, head, rows.z));
      let e = row_stats(row_index(tile, head, rows.w));
      let keeps = vec4<bool>(
        mask_keeps(positions.x, key, tile.keys, tile.prefix), mask_keeps(positions.y, key, tile.keys, tile.prefix),
        mask_keeps(positions.z, key, tile.keys, tile.prefix), mask_keeps(positions.w, key, tile.keys, tile.prefix));
      let is_counted = keeps & (scores > vec4<f32>(MASKED)) & (query + STEPS < vec4<u32>(end));
      let p = select(vec4<f32>(0.0), exp2(scores - vec4<f32>(a.x, b.x, d.x, e.x)), is_counted);
      let ds = p * (dprobs - vec4<f32>(a.y, b.y, d.y, e.y)) * final_slopes(products) * params.scale;
      if (is_stored) {
        for (var c = 0u; c < params.columns; c++) {
          let x = fma(vec4<f32>(ds.y), load_q(q1, c), fma(vec4<f32>(ds.x), load_q(q0, c), out[dk_row + c]));
          out[dk_row + c] = fma(vec4<f32>(ds.w), load_q(q3, c), fma(vec4<f32>(ds.z), load_q(q2, c), x));
        }
        for (var c = 0u; c < params.value_columns; c++) {
          let x = fma(vec4<f32>(p.y), dout[d1 + c], fma(vec4<f32>(p.x), dout[d0 + c], dv[dv_row + c]));
          dv[dv_row + c] = fma(vec4<f32>(p.w), dout[d3 + c], fma(vec4<f32>(p.z), dout[d2 + c], x));
        }
      }
    }
  }
}
