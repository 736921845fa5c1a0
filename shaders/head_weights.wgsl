// weights[s, i, j] = exp(score[j] − lse), score[j] = modified_score(softcap(scale · q[i, h] · k[j, h / group])), over the keys j
// that query i may attend to, exactly 0 elsewhere; h = head_list[s]; lse saved by attention, or log Σ_j exp(score[j]). A query
// at position p attends to the keys from p − left to p, or to the last of the prefix; to all keys where `ahead` is set.
//
// in:  q, k and which of their rows are asked for, as head_weights_dense.wgsl or head_weights_paged.wgsl says;
//      head_list [listed] u32; slopes or relative biases, as attention_score_*.wgsl says
// out: weights [listed, rows, keys] f32
// One workgroup: WORKGROUP_SIZE / ROW_LANES pairs of a head and a query, ROW_LANES invocations each. One invocation: every
// ROW_LANES-th key.
// Workgroup memory: that of the reduction.
// Preconditions: entries of head_list and of the queries are in range.
// Source: Dao, "FlashAttention-2" (2023), §3.1.2 (probabilities rebuilt from the log-sum-exp).

// The finite stand-in for −∞: WGSL may assume that there are no infinities.
const MASKED: f32 = -1e30;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let index = (group.y * groups.x + group.x) * (WORKGROUP_SIZE / ROW_LANES) + local / ROW_LANES;
  let pairs = params.rows * params.listed;
  // Surplus pairs repeat the last one and store nothing: barriers may follow.
  let pair = min(index, pairs - 1u);
  let lane = local % ROW_LANES;
  let query = query_of(pair % params.rows);
  let head = head_list[pair / params.rows];
  let begin = select(0u, query.position - params.left, query.position > params.left);
  let end = min(query.keys, select(max(query.position + 1u, params.prefix), query.keys, params.ahead != 0u));
  let q_first = params.q_offset + query.row * params.q_row + head * params.head_dim;
  let first = pair * params.keys;
  var largest = MASKED;
  var sum = 0.0;
  for (var j = lane; j < params.keys; j += ROW_LANES) {
    var score = MASKED;
    if (j >= begin && j < end) {
      let k_first = key_at(query, head / params.group, j);
      var product = 0.0;
      for (var d = 0u; d < params.head_dim; d++) {
        product += q[q_first + d] * key_element(k_first + d);
      }
      score = params.scale * product;
      if (params.softcap > 0.0) {
        // Past ±15 tanh is ±1 in f32, and its exponentials would overflow.
        score = params.softcap * tanh(clamp(score / params.softcap, -15.0, 15.0));
      }
      score = modified_score(query.sequence, head, query.row, j, query.position, score);
      let next = max(largest, score);
      sum = sum * exp(largest - next) + exp(score - next);
      largest = next;
    }
    if (index < pairs) {
      weights[first + j] = score;
    }
  }
  let total = row_lse(query.row, head, largest, sum, local);
  if (index >= pairs) {
    return;
  }
  // Each invocation reads back what it has stored itself.
  for (var j = lane; j < params.keys; j += ROW_LANES) {
    let is_kept = j >= begin && j < end;
    weights[first + j] = select(0.0, exp(weights[first + j] - total), is_kept);
  }
}
