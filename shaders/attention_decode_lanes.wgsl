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
const TOTALS: u32 = HEADS * VALUE_COLUMNS;

alias PerHead = array<vec4<f32>, HEADS>;

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
    let runs = min(block + vec4<u32>(0u, 1u, 2u, 3u) * SUBGROUP, vec4<u32>((end - 1u) / SUBGROUP * SUBGROUP));
    let k_step = min(vec4<u32>(lane), end - 1u - runs) * params.k_row;
    let rows = k_step + vec4<u32>(k_at(tile, key_head, runs.x), k_at(tile, key_head, runs.y), k_at(tile, key_head, runs.z),
      k_at(tile, key_head, runs.w));
    var scores = PerHead();
    for (var column = 0u; column < params.columns; column += SUBGROUP) {
      var x = array<array<vec4<f32>, SUBGROUP>, HEADS>();
      for (var h = 0u; h < HEADS; h++) {
        let own = load_q(q_at(tile, first_head + min(h, heads - 1u), 0u), min(column + lane, params.columns - 1u));
        x[h] = vec4_of_lanes(select(vec4<f32>(0.0), own, column + lane < params.columns));
      }
      for (var i = 0u; i < SUBGROUP; i++) {
        // Columns past the end repeat the last one; x is 0 there.
        let c = min(column + i, params.columns - 1u);
        let a = load_k(rows.x, c);
        let b = load_k(rows.y, c);
        let d = load_k(rows.z, c);
        let e = load_k(rows.w, c);
        for (var h = 0u; h < HEADS; h++) {
          let y = x[h][i];
          var s = fma(vec4<f32>(y.x), vec4<f32>(a.x, b.x, d.x, e.x), scores[h]);
          s = fma(vec4<f32>(y.y), vec4<f32>(a.y, b.y, d.y, e.y), s);
          s = fma(vec4<f32>(y.z), vec4<f32>(a.z, b.z, d.z, e.z), s);
          scores[h] = fma(vec4<f32>(y.w), vec4<f32>(a.w, b.w, d.w, e.w), s);
        }
      }
    }
    let keys = block + lane + vec4<u32>(0u, 1u, 2u, 3u) * SUBGROUP;
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
    // Of each run in turn the weights are in x.
    for (var run = block; run < min(block + BLOCK, end); run += SUBGROUP) {
      let v_row = v_at(tile, key_head, run);
      var weights = array<array<f32, SUBGROUP>, HEADS>();
      for (var h = 0u; h < HEADS; h++) {
        weights[h] = f32_of_lanes(scores[h].x);
        scores[h] = scores[h].yzwx;
      }
      for (var key = 0u; key < SUBGROUP; key++) {
        for (var i = 0u; i < VALUE_COLUMNS; i++) {
          let x = load_v(v_row + min(key, end - 1u - run) * params.v_row, min(lane + i * SUBGROUP, params.value_columns - 1u));
          for (var h = 0u; h < HEADS; h++) {
            totals[h * VALUE_COLUMNS + i] = fma(vec4<f32>(weights[h][key]), x, totals[h * VALUE_COLUMNS + i]);
          }
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
