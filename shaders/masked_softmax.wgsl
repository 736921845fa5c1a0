// probs[row, j] = exp(scores[row, j] − lse[row]) over the kept keys j, exactly 0 elsewhere; lse = log Σ_j exp(scores[j]).
//
// in:  scores [B, H, T, S] f32; key lengths as attention_lengths*.wgsl says
// out: probs [B, H, T, S] f32, lse [B, H, T] if asked for
// One workgroup: WORKGROUP_SIZE / ROW_LANES rows, ROW_LANES invocations each. One invocation: every ROW_LANES-th key.
// Workgroup memory: that of the reduction.
// Preconditions: `rows` = B · H · T. A score ≤ −1e30 is masked too. A row with no kept key: probs 0, lse −1e30.
// Source: Vaswani et al., "Attention Is All You Need" (2017), §3.2.3; one pass over max and sum: Milakov and
//   Gimelshein (2018), Alg. 3.

struct Params {
  rows: u32,
  heads: u32,
  queries: u32,
  keys: u32,
  position: u32,
  left: u32,
  right: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read_write> probs: array<f32>;

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
  let position = params.position + row % params.queries;
  let keys = sequence_keys(row / params.queries / params.heads);
  let begin = mask_begin(position);
  let end = mask_end(position, keys);
  let first = row * params.keys;
  var largest = MASKED;
  var sum = 0.0;
  for (var j = begin + lane; j < end; j += ROW_LANES) {
    let score = scores[first + j];
    let next = max(largest, score);
    sum = sum * exp(largest - next) + select(exp(score - next), 0.0, score <= MASKED);
    largest = next;
  }
  let row_largest = workgroup_max(largest, local);
  let row_sum = workgroup_sum(sum * exp(largest - row_largest), local);
  if (index >= params.rows) {
    return;
  }
  for (var j = lane; j < params.keys; j += ROW_LANES) {
    let score = scores[first + j];
    let is_kept = j >= begin && j < end && score > MASKED;
    probs[first + j] = select(0.0, exp(score - row_largest) / row_sum, is_kept);
  }
  if (lane == 0u) {
    keep_lse(row, select(MASKED, row_largest + log(row_sum), row_sum > 0.0));
  }
}
