// best[n, chunk] = (score, token) of the largest penalised logit of row n in a range of the vocabulary, the lowest on ties
//
// in:  logits [rows, vocabulary] f32 as bits, rows `row_stride` apart from `offset` on; row_table [rows] (slot, position)
//      seen [slots, seen_words] u32, a bit a token; sampling [slots, 12] u32
// out: best [rows, chunks] (bits of the score, token); token is FAILED where a logit is NaN or +Infinity
// One chunk: ROW_LANES invocations, a whole workgroup on GPUs, one invocation on CPU adapters.
// Workgroup memory: that of the linked reduction.
// Preconditions: vocabulary ≤ 2^24, since indices are compared as f32.

struct Params {
  rows: u32,
  vocabulary: u32,
  offset: u32,
  row_stride: u32,
  chunks: u32,
  chunk_size: u32,
  slots: u32,
  seen_words: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<u32>;
@group(0) @binding(1) var<storage, read> row_table: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> seen: array<u32>;
@group(0) @binding(3) var<storage, read> sampling: array<u32>;
@group(0) @binding(4) var<storage, read_write> best: array<vec2<u32>>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local_index: u32,
) {
  let index = (group.y * groups.x + group.x) * (WORKGROUP_SIZE / ROW_LANES) + local_index / ROW_LANES;
  let lane = local_index % ROW_LANES;
  // Surplus chunks do the work of the last one: an early return would stand before the reduction's barriers.
  let place = min(index, params.rows * params.chunks - 1u);
  let row = place / params.chunks;
  let first = place % params.chunks * params.chunk_size;
  let last = min(first + params.chunk_size, params.vocabulary);
  let slot = min(row_table[row].x, params.slots - 1u);
  let penalty = bitcast<f32>(sampling[slot * SAMPLING_WORDS + REPETITION_PENALTY]);

  var score = MASKED;
  var token = first;
  var unusable = 0.0;
  for (var i = first + lane; i < last; i += ROW_LANES) {
    let bits = logits[params.offset + row * params.row_stride + i];
    let is_seen = ((seen[slot * params.seen_words + i / 32u] >> (i % 32u)) & 1u) == 1u;
    let candidate = penalised(bits, is_seen, penalty);
    unusable = select(unusable, 1.0, is_unusable(bits));
    if (candidate > score) {
      score = candidate;
      token = i;
    }
  }
  let largest = workgroup_max(score, local_index);
  let lowest = -workgroup_max(select(-1e30, -f32(token), score == largest), local_index);
  let failed = workgroup_max(unusable, local_index) > 0.0;
  if (lane == 0u && index < params.rows * params.chunks) {
    best[place] = vec2<u32>(bitcast<u32>(largest), select(u32(lowest), FAILED, failed));
  }
}
