// out = softmax(mask(scale · q kᵀ)) v, tiles of keys shared through workgroup memory: for GPUs.
//
// in:  q, k, v, lengths and sinks as the addressing part says (attention_dense.wgsl or attention_paged.wgsl); scores become
//      what final_scores makes of them (attention_final*.wgsl)
// out: out [T, Dv] of each head; lse [B, H, T] if asked for
// One workgroup: a tile of 64 queries of one head; keys pass in tiles of 8 · KEYS. One invocation (row_group, key_group)
//   of 16 × 8: scores of 4 queries with KEYS keys, then 4 queries × COLUMNS vec4 columns of out, in registers.
// Workgroup memory: the K tile and the V tile take turns in 512 vec4s (8,192 bytes); weights 8 · KEYS · 64 · 4 bytes
//   (8,192 at KEYS = 4): 16,384 bytes at most.
// Preconditions: D and Dv ≤ 64 with KEYS = 4, ≤ 128 with KEYS = 2; COLUMNS ≥ Dv / 32; a tile has at least one row. The
//   bounds of the key loop, which holds barriers, come from read-only bindings.
// Source: FlashAttention-2 §3.1, Alg. 1.

const LN_2: f32 = 0.6931471805599453;
const INVOCATIONS: u32 = 128u;
const TILE_QUERIES: u32 = 64u;
const TILE_KEYS: u32 = 8u * KEYS;

var<workgroup> tile_values: array<vec4<f32>, 512>;
// weights[key · 16 + row group]: of four queries. Also the exchange of row maxima and sums between barriers.
var<workgroup> weights: array<vec4<f32>, TILE_KEYS * 16u>;

// K goes to [column][key], keys of one invocation 8 apart, so that eight neighbours read eight neighbouring vec4s.
fn stage_keys(tile: Tile, key_head: u32, first: u32, spare: u32, local: u32) {
  for (var i = local; i < TILE_KEYS * params.columns; i += INVOCATIONS) {
    let key = i / params.columns;
    let column = i % params.columns;
    let at = k_at(tile, key_head, first + min(key, spare));
    tile_values[column * TILE_KEYS + key % KEYS * 8u + key / KEYS] = load_k(at, column);
  }
}

// V goes to [key][column].
fn stage_values(tile: Tile, key_head: u32, first: u32, spare: u32, local: u32) {
  for (var i = local; i < TILE_KEYS * params.value_columns; i += INVOCATIONS) {
    let at = v_at(tile, key_head, first + min(i / params.value_columns, spare));
    tile_values[i] = load_v(at, i % params.value_columns);
  }
}

// Bit r is set if the query r rows further keeps the key.
fn keeps4(tile: Tile, position: u32, key: u32) -> vec4<bool> {
  return vec4<bool>(
    mask_keeps(position, key, tile.keys, tile.prefix), mask_keeps(position + 1u, key, tile.keys, tile.prefix),
    mask_keeps(position + 2u, key, tile.keys, tile.prefix), mask_keeps(position + 3u, key, tile.keys, tile.prefix));
}

@compute @workgroup_size(INVOCATIONS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let tile = tile_of(group.x, group.z, TILE_QUERIES);
  let head = group.y;
  let key_head = head / params.group;
  let row_group = local / 8u;
  let key_group = local % 8u;
  let row = row_group * 4u;
  let position = tile.position + row;
  let last = tile.position + tile.rows - 1u;
  let end = mask_end(last, tile.keys, tile.prefix);
  // Rows past the tile's end repeat its last one and are not stored.
  let q0 = q_at(tile, head, min(row, tile.rows - 1u));
  let q1 = q_at(tile, head, min(row + 1u, tile.rows - 1u));
  let q2 = q_at(tile, head, min(row + 2u, tile.rows - 1u));
  let q3 = q_at(tile, head, min(row + 3u, tile.rows - 1u));
  // Component r of these belongs to query row + r.
  let positions = position + vec4<u32>(0u, 1u, 2u, 3u);
  // A sink is one more key, of value 0, that comes first.
  let sink = head_sink(head);
  let has_sink = sink > MASKED;
  var largest = vec4<f32>(select(MASKED, sink / LN_2, has_sink));
  var sums = vec4<f32>(select(0.0, 1.0, has_sink & (key_group == 0u)));
  var totals = array<vec4<f32>, 4u * COLUMNS>();
  for (var first = mask_begin(tile.position) / TILE_KEYS * TILE_KEYS; first < end; first += TILE_KEYS) {
    let spare = end - first - 1u;
    stage_keys(tile, key_head, first, spare, local);
    // The K tile is written before it is read.
    workgroupBarrier();
    var scores = array<vec4<f32>, KEYS>();
    for (var c = 0u; c < params.columns; c++) {
      let a = load_q(q0, c);
      let b = load_q(q1, c);
      let d = load_q(q2, c);
      let e = load_q(q3, c);
      for (var i = 0u; i < KEYS; i++) {
        let k = tile_values[c * TILE_KEYS + i * 8u + key_group];
        scores[i] += vec4<f32>(dot(a, k), dot(b, k), dot(d, k), dot(e, k));
      }
    }
    let is_whole = mask_keeps_all(tile.position, last, first, first + TILE_KEYS, tile.keys, tile.prefix);
    var top = largest;
    for (var i = 0u; i < KEYS; i++) {
      let key = first + key_group * KEYS + i;
      scores[i] = final_scores(tile, head, positions, vec4<u32>(key), scores[i]);
      if (!is_whole) {
        scores[i] = select(vec4<f32>(MASKED), scores[i], keeps4(tile, position, key));
      }
      top = max(top, scores[i]);
    }
    weights[local] = top;
    // Every invocation's maxima are written before they are read, and the K tile is read before V replaces it.
    workgroupBarrier();
    for (var i = 0u; i < 8u; i++) {
      top = max(top, weights[row_group * 8u + i]);
    }
    let decay = exp2(largest - top);
    largest = top;
    sums *= decay;
    stage_values(tile, key_head, first, spare, local);
    // The maxima are read before weights replace them.
    workgroupBarrier();
    for (var i = 0u; i < KEYS; i++) {
      // Where no key was kept so far the difference is 0, so masked weights are set to 0 by selection.
      let p = select(exp2(scores[i] - largest), vec4<f32>(0.0), scores[i] <= vec4<f32>(MASKED));
      weights[(key_group * KEYS + i) * 16u + row_group] = p;
      sums += p;
    }
    // Weights and the V tile are written before they are read.
    workgroupBarrier();
    for (var i = 0u; i < 4u * COLUMNS; i++) {
      totals[i] *= decay[i / COLUMNS];
    }
    for (var key = 0u; key < TILE_KEYS; key++) {
      let p = weights[key * 16u + row_group];
      for (var i = 0u; i < COLUMNS; i++) {
        let v = tile_values[key * params.value_columns + min(key_group + i * 8u, params.value_columns - 1u)];
        totals[i] = fma(vec4<f32>(p.x), v, totals[i]);
        totals[COLUMNS + i] = fma(vec4<f32>(p.y), v, totals[COLUMNS + i]);
        totals[2u * COLUMNS + i] = fma(vec4<f32>(p.z), v, totals[2u * COLUMNS + i]);
        totals[3u * COLUMNS + i] = fma(vec4<f32>(p.w), v, totals[3u * COLUMNS + i]);
      }
    }
    // The V tile and the weights are read before the next tile replaces them.
    workgroupBarrier();
  }
  weights[local] = sums;
  // Every invocation's sums are written before they are added up.
  workgroupBarrier();
  var sum = vec4<f32>(0.0);
  for (var i = 0u; i < 8u; i++) {
    sum += weights[row_group * 8u + i];
  }
  for (var r = 0u; r < 4u && row + r < tile.rows; r++) {
    let at = out_at(tile, head, row + r);
    let has_keys = sum[r] > 0.0;
    for (var i = 0u; i < COLUMNS; i++) {
      if (key_group + i * 8u < params.value_columns) {
        store_out(at, key_group + i * 8u, select(vec4<f32>(0.0), totals[r * COLUMNS + i] / sum[r], has_keys));
      }
    }
    if (key_group == 0u) {
      keep_lse(row_index(tile, head, row + r), select(MASKED, (largest[r] + log2(sum[r])) * LN_2, has_keys));
    }
  }
}
