// out = softmax(mask(scale · q kᵀ)) v for few queries and many keys, in one subgroup without barriers.
//
// For CPU adapters, where barriers and workgroup memory are dear and a load costs the same in each lane, whoever else loads
// the same: every lane loads other elements of K, V and q, and hands its q and its weights to all by subgroupBroadcast.
// in:  q, k, v and lengths as the addressing part says (attention_dense.wgsl or attention_paged.wgsl)
// out: out and lse (attention_whole.wgsl), or each split's share of them (attention_share.wgsl)
// Grid: x: key heads × groups of HEADS query heads, y: splits of split_keys keys, z: rows.
// One workgroup, which is one subgroup of SUBGROUP (4 or 8) invocations: HEADS query heads of one row that share a key
//   head; keys pass in blocks of 4 runs of SUBGROUP. One invocation: scores of one key of each run, then VALUE_COLUMNS
//   vec4 columns of out, SUBGROUP apart, over all keys.
// Workgroup memory: 0 bytes.
// Preconditions: subgroups have SUBGROUP lanes; SUBGROUP · VALUE_COLUMNS ≥ Dv / 4.
// Source: split keys, "Flash-Decoding for long-context inference" (2023); grouped heads, "GQA" (2023), §2.2.

const LN_2: f32 = 0.6931471805599453;
// Keys of a block: four runs of as many as there are lanes.
const BLOCK: u32 = 4u * SUBGROUP;
const RUNS = vec4<u32>(0u, 1u, 2u, 3u);
const TOTALS: u32 = HEADS * VALUE_COLUMNS;

// Keys whose values are added up at a turn.
const TURN: u32 = clamp(4u / VALUE_COLUMNS, 1u, 4u);

alias PerHead = array<vec4<f32>, HEADS>;

// What follows the first TURN of weights, `others` after them.
fn next_weights(weights: vec4<f32>, others: vec4<f32>) -> vec4<f32> {
  if (TURN == 1u) {
    return vec4<f32>(weights.yzw, others.x);
  }
  if (TURN == 2u) {
    return vec4<f32>(weights.zw, others.xy);
  }
  return others;
}

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
  let tile = row_tile(group.z);
  let split = group.y;
  let head_groups = (params.group + HEADS - 1u) / HEADS;
  let key_head = group.x / head_groups;
  // Query heads first_head..first_head + heads − 1; surplus ones compute the last again and store nothing.
  let first_head = key_head * params.group + group.x % head_groups * HEADS;
  let heads = min(HEADS, (key_head + 1u) * params.group - first_head);
  let begin = max(mask_begin(tile.position), split * params.split_keys);
  let end = min(mask_end(tile.position, tile.keys, tile.prefix), (split + 1u) * params.split_keys);
  var largest = array<f32, HEADS>();
  var sums = array<f32, HEADS>();
  var totals = array<vec4<f32>, TOTALS>();
  for (var h = 0u; h < HEADS; h++) {
    largest[h] = MASKED;
  }
  // Runs begin at multiples of SUBGROUP, so that each is inside one page.
  for (var block = begin / SUBGROUP * SUBGROUP; block < end; block += BLOCK) {
    // Past the end the last run and its last key stand in, so that nothing unwritten is read.
    let runs = min(block + RUNS * SUBGROUP, vec4<u32>((end - 1u) / SUBGROUP * SUBGROUP));
    var rows = vec4<u32>(k_at(tile, key_head, runs.x), k_at(tile, key_head, runs.y), k_at(tile, key_head, runs.z),
      k_at(tile, key_head, runs.w));
    rows += min(vec4<u32>(lane), end - 1u - runs) * params.k_row;
    var scores = PerHead();
    for (var column = 0u; column < params.columns; column += SUBGROUP) {
      var x = array<Lanes, HEADS>();
      for (var h = 0u; h < HEADS; h++) {
        let own = load_q(q_at(tile, first_head + min(h, heads - 1u), 0u), min(column + lane, params.columns - 1u));
        x[h] = every_lane(select(vec4<f32>(0.0), own, column + lane < params.columns));
      }
      // A run a turn, each in component x at its turn: with all four at once the loop's code does not fit the cache.
      for (var run = block; run < block + BLOCK; run += SUBGROUP) {
        for (var i = 0u; i < SUBGROUP; i++) {
          // Columns past the end repeat the last one; x is 0 there.
          let k = load_k(rows.x, min(column + i, params.columns - 1u));
          for (var h = 0u; h < HEADS; h++) {
            scores[h].x = fma(x[h][i].x, k.x, fma(x[h][i].y, k.y, fma(x[h][i].z, k.z, fma(x[h][i].w, k.w, scores[h].x))));
          }
        }
        rows = rows.yzwx;
        for (var h = 0u; h < HEADS; h++) {
          scores[h] = scores[h].yzwx;
        }
      }
    }
    let keys = block + lane + RUNS * SUBGROUP;
    let is_kept = (keys >= vec4<u32>(begin)) & (keys < vec4<u32>(end));
    for (var h = 0u; h < HEADS; h++) {
      let head = first_head + min(h, heads - 1u);
      let final4 = final_scores(tile, head, vec4<u32>(tile.position), min(keys, vec4<u32>(end - 1u)), scores[h]);
      let s = select(vec4<f32>(MASKED), final4, is_kept);
      let top = max(largest[h], subgroupMax(max(max(s.x, s.y), max(s.z, s.w))));
      let decay = exp2(largest[h] - top);
      largest[h] = top;
      // exp2(s − top) is 1 where everything so far is masked.
      scores[h] = select(exp2(s - top), vec4<f32>(0.0), s <= vec4<f32>(MASKED));
      sums[h] = sums[h] * decay + dot(scores[h], vec4<f32>(1.0));
      for (var i = 0u; i < VALUE_COLUMNS; i++) {
        totals[h * VALUE_COLUMNS + i] *= decay;
      }
    }
    for (var run = block; run < min(block + BLOCK, end); run += SUBGROUP) {
      let v_row = v_at(tile, key_head, run);
      var weights = PerHead();
      var others = PerHead();
      for (var h = 0u; h < HEADS; h++) {
        weights[h] = lower_lanes(scores[h].x);
        others[h] = upper_lanes(scores[h].x);
        scores[h] = scores[h].yzwx;
      }
      // As few keys a turn as fill 4 loads, for the same reason; their weights come first.
      for (var key = run; key < run + SUBGROUP; key += TURN) {
        for (var j = 0u; j < TURN; j++) {
          let row = v_row + min(key + j - run, end - 1u - run) * params.v_row;
          for (var i = 0u; i < VALUE_COLUMNS; i++) {
            let v = load_v(row, min(lane + i * SUBGROUP, params.value_columns - 1u));
            for (var h = 0u; h < HEADS; h++) {
              totals[h * VALUE_COLUMNS + i] = fma(vec4<f32>(weights[h][j]), v, totals[h * VALUE_COLUMNS + i]);
            }
          }
        }
        for (var h = 0u; h < HEADS; h++) {
          weights[h] = next_weights(weights[h], others[h]);
          others[h] = next_weights(others[h], others[h]);
        }
      }
    }
  }
  for (var h = 0u; h < HEADS; h++) {
    let sum = subgroupAdd(sums[h]);
    if (h < heads) {
      for (var i = 0u; i < VALUE_COLUMNS; i++) {
        if (lane + i * SUBGROUP < params.value_columns) {
          store_columns(tile, first_head + h, split, lane + i * SUBGROUP, totals[h * VALUE_COLUMNS + i], sum);
        }
      }
      if (lane == 0u) {
        store_row(tile, first_head + h, split, largest[h], sum);
      }
    }
  }
}
