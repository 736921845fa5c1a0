// probs[row, j] = exp(x[row, j] − lse[row]) over the kept keys j, exactly 0 elsewhere; lse = log(Σ_j exp(x[j]) + exp(sink)).
//
// in:  scores [B, H, T, S] f32; x = modified_score(scores) (attention_score*.wgsl); lengths, starts, prefixes, slopes and
//      sinks as attention_table*.wgsl says
// out: probs [B, H, T, S] f32, lse [B, H, T]; the one-hot of the largest x (attention_select*.wgsl) if asked for
// One workgroup: WORKGROUP_SIZE / ROW_LANES rows, ROW_LANES invocations each. One invocation: every ROW_LANES-th key.
// Workgroup memory: that of the reduction.
// Preconditions: `rows` = B · H · T. A score ≤ −1e30 is masked too. A row with no kept key: probs 0, lse −1e30 or the sink.
// Source: Vaswani et al., "Attention Is All You Need" (2017), §3.2.3; one pass over max and sum: Milakov and
//   Gimelshein (2018), Alg. 3; sinks: "Efficient Streaming Language Models with Attention Sinks" (2023), §3.3.

struct Params {
  rows: u32,
  batches: u32,
  heads: u32,
  queries: u32,
  keys: u32,
  position: u32,
  prefix: u32,
  length: u32,
  left: u32,
  right: u32,
  ahead: u32,
  bias_mode: u32,
  bias_offset: u32,
  bias_batch: u32,
  bias_head: u32,
  bias_query: u32,
  bias_key: u32,
  mask_mode: u32,
  mask_offset: u32,
  mask_batch: u32,
  mask_head: u32,
  mask_query: u32,
  mask_key: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read_write> probs: array<f32>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;

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
  let query = row % params.queries;
  let head = row / params.queries % params.heads;
  let batch = row / params.queries / params.heads;
  let position = sequence_start(batch) + query;
  let begin = mask_begin(position);
  let end = mask_end(position, sequence_keys(batch), sequence_prefix(batch));
  let first = row * params.keys;
  var largest = MASKED;
  var sum = 0.0;
  var best = params.keys;
  for (var j = begin + lane; j < end; j += ROW_LANES) {
    let score = modified_score(batch, head, query, j, position, scores[first + j]);
    best = select(best, j, score > largest);
    let next = max(largest, score);
    sum = sum * exp(largest - next) + select(exp(score - next), 0.0, score <= MASKED);
    largest = next;
  }
  let row_best = workgroup_max(largest, local);
  let chosen = chosen_key(select(params.keys, best, largest == row_best), local);
  let sink = head_sink(head);
  let row_largest = max(row_best, sink);
  let sink_weight = select(exp(sink - row_largest), 0.0, sink <= MASKED);
  let row_sum = workgroup_sum(sum * exp(largest - row_largest), local) + sink_weight;
  if (index >= params.rows) {
    return;
  }
  for (var j = lane; j < params.keys; j += ROW_LANES) {
    let score = modified_score(batch, head, query, j, position, scores[first + j]);
    let is_kept = (j >= begin) & (j < end) & (score > MASKED);
    probs[first + j] = select(0.0, exp(score - row_largest) / row_sum, is_kept);
    store_selection(first + j, j == chosen);
  }
  if (lane == 0u) {
    lse[row] = select(MASKED, row_largest + log(row_sum), row_sum > 0.0);
  }
}
