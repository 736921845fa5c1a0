// best[n, 0] = (chosen[n], logprob of it); best[n, 1 + r] = (token, score) of rank r by falling score, the lower token of equals;
// logprob[i] = logit[i] − log Σ exp(logits); score: the logprob, of a token that was seen times the penalty, banned ones left out;
// where the rules say so, less log Σ exp of the scores that are left; where the tokens from the rules' group on are together likelier
// than any before it, those before it are left out too
//
// in:  logits [rows, vocabulary] f32 as bits, rows `row_stride` apart from `offset` on; chosen [rows] u32 (bound to `logits` and
//      not used where `has_chosen` is 0); rules: rules_*.wgsl
// out: best [rows, 1 + top] (token, bits of an f32); token NONE where there is none, or nothing was chosen, or a logit is no number
// One workgroup: WORKGROUP_SIZE / ROW_LANES rows, ROW_LANES invocations each. One invocation: every ROW_LANES-th token.
// Workgroup memory: that of the linked reduction.
// Preconditions: vocabulary ≤ 2^24, since indices are compared as f32.
// Source: penalty, Keskar et al., "CTRL" (2019), §4.1.

struct Params {
  rows: u32,
  vocabulary: u32,
  offset: u32,
  row_stride: u32,
  top: u32,
  words: u32,
  has_chosen: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read> chosen: array<u32>;
@group(0) @binding(3) var<storage, read_write> best: array<vec2<u32>>;

const NONE: u32 = 0xffffffffu;
// Below every score.
const LOWEST: f32 = -3e38;
const NO_INDEX: f32 = -1e30;

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
  let stores = index < params.rows && lane == 0u;
  let first = params.offset + row * params.row_stride;
  var largest = MASKED;
  var sum = 0.0;
  var unusable = 0.0;
  for (var i = lane; i < params.vocabulary; i += ROW_LANES) {
    let bits = logits[first + i];
    unusable = select(unusable, 1.0, is_unusable(bits));
    let x = penalised(bits, false, 1.0);
    let next = max(largest, x);
    sum = sum * exp(largest - next) + exp(x - next);
    largest = next;
  }
  let row_largest = workgroup_max(largest, local);
  let total = workgroup_sum(sum * exp(largest - row_largest), local);
  let is_usable = workgroup_max(unusable, local) == 0.0 && row_largest > MASKED;
  let lse = row_largest + log(total);
  let at = row * (params.top + 1u);
  if (stores) {
    let token = chosen[select(0u, row, params.has_chosen != 0u)];
    let is_chosen = params.has_chosen != 0u && token < params.vocabulary && is_usable;
    let logprob = penalised(logits[first + min(token, params.vocabulary - 1u)], false, 1.0) - lse;
    best[at] = vec2<u32>(select(NONE, token, is_chosen), bitcast<u32>(logprob));
  }
  let penalty = rule_penalty(row);
  var left = 0.0;
  var begin = 0u;
  if (HAS_RULES) {
    let group_first = rule_group(row);
    var top_left = MASKED;
    var sum_left = 0.0;
    var top_before = MASKED;
    var top_group = MASKED;
    var sum_group = 0.0;
    for (var i = lane; i < params.vocabulary; i += ROW_LANES) {
      let raw = penalised(logits[first + i], false, 1.0);
      if (raw > MASKED && !rule_banned(row, i)) {
        let score = select(raw - lse, (raw - lse) * penalty, rule_seen(row, i));
        let next = max(top_left, score);
        sum_left = sum_left * exp(top_left - next) + exp(score - next);
        top_left = next;
        if (i < group_first) {
          top_before = max(top_before, score);
        } else {
          let next_group = max(top_group, score);
          sum_group = sum_group * exp(top_group - next_group) + exp(score - next_group);
          top_group = next_group;
        }
      }
    }
    let row_top = workgroup_max(top_left, local);
    let total_left = workgroup_sum(sum_left * exp(top_left - row_top), local);
    left = select(0.0, row_top + log(total_left), rule_renormalised(row) && row_top > MASKED);
    let row_before = workgroup_max(top_before, local);
    let row_group = workgroup_max(top_group, local);
    let total_group = workgroup_sum(sum_group * exp(top_group - row_group), local);
    begin = select(0u, group_first, row_group > MASKED && row_group + log(total_group) > row_before);
  }
  // The token before in the order of falling scores and rising tokens.
  var last_score = -LOWEST;
  var last_token = 0u;
  for (var rank = 0u; rank < params.top; rank++) {
    var score = LOWEST;
    var token = 0u;
    for (var i = lane; i < params.vocabulary; i += ROW_LANES) {
      let raw = penalised(logits[first + i], false, 1.0);
      let logprob = raw - lse;
      // Logprobs are not positive.
      let candidate = select(logprob, logprob * penalty, rule_seen(row, i)) - left;
      let follows = candidate < last_score || (candidate == last_score && i > last_token);
      if (follows && candidate > score && raw > MASKED && i >= begin && !rule_banned(row, i)) {
        score = candidate;
        token = i;
      }
    }
    last_score = workgroup_max(score, local);
    last_token = u32(-workgroup_max(select(NO_INDEX, -f32(token), score == last_score), local));
    if (stores) {
      best[at + 1u + rank] = vec2<u32>(select(NONE, last_token, last_score > LOWEST && is_usable), bitcast<u32>(last_score));
    }
  }
}
