// out = softmax(mask(scale · q kᵀ)) v for few queries and many keys.
//
// in:  q, k, v and lengths as the addressing part says (attention_dense.wgsl or attention_paged.wgsl); scores become what
//      final_score makes of them (attention_final*.wgsl)
// out: out and lse (attention_whole.wgsl), or each split's share of them (attention_share.wgsl)
// Grid: x: key heads × groups of HEADS query heads, y: splits of split_keys keys, z: rows.
// One workgroup: HEADS query heads of one row that share a key head, so that K and V are read once for all of them; the
//   keys of one split in blocks of BLOCK. One invocation: scores of every WORKGROUP_SIZE-th key of a block, then one
//   vec4 column of V over every n-th key.
// Splits stand at fixed key positions: a row's result does not depend on the other rows of its batch.
// Workgroup memory: HEADS · BLOCK · 4 = 8,192 bytes of weights, WORKGROUP_SIZE · 16 to exchange, and the reduction's.
// Preconditions: Dv ≤ 4 · WORKGROUP_SIZE; the bounds of every loop that holds a barrier come from read-only bindings.
// Source: split keys, "Flash-Decoding for long-context inference" (2023); grouped heads, "GQA" (2023), §2.2.

override WORKGROUP_SIZE: u32 = 64u;

const BLOCK: u32 = 2048u / HEADS;
const LN_2: f32 = 0.6931471805599453;

var<workgroup> weights: array<f32, 2048>;
var<workgroup> exchange: array<vec4<f32>, WORKGROUP_SIZE>;

// Reduces each head's value over the workgroup, four heads for the barriers of one.
fn max_of_heads(values: array<f32, HEADS>, local: u32) -> array<f32, HEADS> {
  var x = values;
  for (var h = 0u; h < HEADS; h += 4u) {
    let r = workgroup_max_vec4(vec4<f32>(x[h], x[min(h + 1u, HEADS - 1u)], x[min(h + 2u, HEADS - 1u)], x[min(h + 3u, HEADS - 1u)]), local);
    for (var i = 0u; i < min(4u, HEADS - h); i++) {
      x[h + i] = r[i];
    }
  }
  return x;
}

fn sum_of_heads(values: array<f32, HEADS>, local: u32) -> array<f32, HEADS> {
  var x = values;
  for (var h = 0u; h < HEADS; h += 4u) {
    let r = workgroup_sum_vec4(vec4<f32>(x[h], x[min(h + 1u, HEADS - 1u)], x[min(h + 2u, HEADS - 1u)], x[min(h + 3u, HEADS - 1u)]), local);
    for (var i = 0u; i < min(4u, HEADS - h); i++) {
      x[h + i] = r[i];
    }
  }
  return x;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let tile = row_tile(group.z);
  let split = group.y;
  let head_groups = (params.group + HEADS - 1u) / HEADS;
  let key_head = group.x / head_groups;
  // Query heads first_head..first_head + heads − 1; surplus ones compute the last again and store nothing.
  let first_head = key_head * params.group + group.x % head_groups * HEADS;
  let heads = min(HEADS, (key_head + 1u) * params.group - first_head);
  let begin = max(mask_begin(tile.position), split * params.split_keys);
  let end = min(mask_end(tile.position, tile.keys, tile.prefix), (split + 1u) * params.split_keys);
  let columns = params.value_columns;
  let parts = WORKGROUP_SIZE / columns;
  let column = local % columns;
  let part = local / columns;
  var q_rows: array<u32, HEADS>;
  var largest: array<f32, HEADS>;
  var sums: array<f32, HEADS>;
  var totals: array<vec4<f32>, HEADS>;
  for (var h = 0u; h < HEADS; h++) {
    q_rows[h] = q_at(tile, first_head + min(h, heads - 1u), 0u);
    largest[h] = MASKED;
  }
  // Every key of the range is kept: one row's mask is an interval.
  for (var block = begin; block < end; block += BLOCK) {
    let keys = min(BLOCK, end - block);
    var best = largest;
    for (var j = local; j < keys; j += WORKGROUP_SIZE) {
      let k_row = k_at(tile, key_head, block + j);
      var scores = array<f32, HEADS>();
      for (var c = 0u; c < params.columns; c++) {
        let x = load_k(k_row, c);
        for (var h = 0u; h < HEADS; h++) {
          scores[h] += dot(load_q(q_rows[h], c), x);
        }
      }
      for (var h = 0u; h < HEADS; h++) {
        let score = final_score(tile, first_head + min(h, heads - 1u), tile.position, block + j, scores[h]);
        weights[h * BLOCK + j] = score;
        best[h] = max(best[h], score);
      }
    }
    best = max_of_heads(best, local);
    for (var h = 0u; h < HEADS; h++) {
      let decay = exp2(largest[h] - best[h]);
      largest[h] = best[h];
      totals[h] *= decay;
      sums[h] *= decay;
      // Each invocation turns the scores that it wrote itself into weights.
      for (var j = local; j < keys; j += WORKGROUP_SIZE) {
        let p = exp2(weights[h * BLOCK + j] - best[h]);
        weights[h * BLOCK + j] = p;
        sums[h] += p;
      }
    }
    // Every weight of the block is written before any is read.
    workgroupBarrier();
    if (part < parts) {
      // Runs of four keys share a page, and with it the look-up of their place.
      for (var run = block / 4u * 4u + part * 4u; run < block + keys; run += parts * 4u) {
        let v_row = v_at(tile, key_head, run);
        for (var key = max(run, block); key < min(run + 4u, block + keys); key++) {
          let x = load_v(v_row + (key - run) * params.v_row, column);
          for (var h = 0u; h < HEADS; h++) {
            totals[h] = fma(vec4<f32>(weights[h * BLOCK + key - block]), x, totals[h]);
          }
        }
      }
    }
    // The weights are read before the next block's scores replace them.
    workgroupBarrier();
  }
  sums = sum_of_heads(sums, local);
  for (var h = 0u; h < HEADS; h++) {
    exchange[local] = totals[h];
    // Each part's total is written before part 0 adds them up.
    workgroupBarrier();
    if (h < heads && part == 0u) {
      var total = totals[h];
      for (var i = 1u; i < parts; i++) {
        total += exchange[i * columns + column];
      }
      store_columns(tile, first_head + h, split, column, total, sums[h]);
      if (column == 0u) {
        store_row(tile, first_head + h, split, largest[h], sums[h]);
      }
    }
    // The totals are read before the next head's replace them.
    workgroupBarrier();
  }
}
