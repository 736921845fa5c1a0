// best[n, 0] = (0, token): one draw from the filtered distribution of row n, in the order of `transformers`:
//   score = penalised logit;  weight = exp((score − max) / temperature)
//   top-k: scores ≥ the k-th largest;  top-p: the fewest largest whose weights reach top_p of what top-k left, ties in the
//   order of tokens;  min-p: weight ≥ min_p;  then the first token whose running sum of kept weights exceeds u · total
//
// in:  logits [rows, vocabulary] f32 as bits, rows `row_stride` apart from `offset` on; row_table [rows] (slot, position)
//      seen [slots, seen_words] u32, a bit a token; sampling [slots, 12] u32
// out: scores [rows, vocabulary] f32, scratch; best [rows] (0, token), token FAILED as in lib/sample_score.wgsl
// One workgroup: one row. Nothing is sorted: both thresholds are searched two bits at a time over the 32 bits of the scores'
// order, with sums in a fixed order, so that the result is exact over the whole vocabulary and the same at every run.
// u comes from Philox with the slot's seed and the row's position: a row's draw does not depend on its batch.
// Workgroup memory: 4 · WORKGROUP_SIZE bytes, and that of the linked reduction.
// Preconditions: one workgroup a row.
// Sources: Holtzman et al. (2020), §3.1; Nguyen et al. (2024), §3.

struct Params {
  rows: u32,
  vocabulary: u32,
  offset: u32,
  row_stride: u32,
  slots: u32,
  seen_words: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<u32>;
@group(0) @binding(1) var<storage, read> row_table: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> seen: array<u32>;
@group(0) @binding(3) var<storage, read> sampling: array<u32>;
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;
@group(0) @binding(5) var<storage, read_write> best: array<vec2<u32>>;
@group(0) @binding(6) var<uniform> params: Params;

// How much of a token a sum counts.
const COUNT: u32 = 0u;
const WEIGHT: u32 = 1u;
const KEPT_WEIGHT: u32 = 2u;
const IS_TIE: u32 = 3u;

var<workgroup> lane_sums: array<f32, WORKGROUP_SIZE>;

// The row's state; the same in every invocation.
var<private> row_start: u32;
var<private> highest: f32;
var<private> temperature: f32;
var<private> min_p: f32;
// Keys below are filtered out; of those equal to it, tokens after `last_tie` too.
var<private> threshold: u32 = 0u;
var<private> last_tie: u32 = 0xffffffffu;

// Maps the order of floats to that of unsigned integers; both zeros are one.
fn order_key(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let key = select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
  return select(key, 0x80000000u, x == 0.0);
}

fn score_of_key(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u));
}

fn weight_of(score: f32) -> f32 {
  // At temperature 0 all weight is on the largest score.
  let below = score - highest;
  if (below < -80.0 * temperature) {
    return 0.0;
  }
  return select(exp(below / max(temperature, 1e-30)), 1.0, below == 0.0);
}

fn amount(token: u32, kind: u32) -> f32 {
  let score = scores[row_start + token];
  let key = order_key(score);
  let weight = weight_of(score);
  switch kind {
    case COUNT: {
      return 1.0;
    }
    case WEIGHT: {
      return select(0.0, weight, key >= threshold);
    }
    case KEPT_WEIGHT: {
      let kept = (key > threshold || (key == threshold && token <= last_tie)) && weight >= min_p;
      return select(0.0, weight, kept);
    }
    default: {
      return select(0.0, 1.0, key == threshold);
    }
  }
}

// Sum over the tokens whose key is at least `lowest`.
fn sum_from(lowest: u32, kind: u32, lane: u32) -> f32 {
  var sum = 0.0;
  for (var i = lane; i < params.vocabulary; i += WORKGROUP_SIZE) {
    sum += select(0.0, amount(i, kind), order_key(scores[row_start + i]) >= lowest);
  }
  return workgroup_sum(sum, lane);
}

// The largest key such that the tokens at or above it sum to `goal` or more.
fn largest_key(goal: f32, kind: u32, lane: u32) -> u32 {
  var found = 0u;
  for (var step = 0u; step < 16u; step++) {
    let shift = 30u - 2u * step;
    var sums = vec4<f32>(0.0);
    for (var i = lane; i < params.vocabulary; i += WORKGROUP_SIZE) {
      let digits = vec3<u32>(found) | (vec3<u32>(1u, 2u, 3u) << vec3<u32>(shift));
      let counted = vec3<u32>(order_key(scores[row_start + i])) >= digits;
      sums += vec4<f32>(select(vec3<f32>(0.0), vec3<f32>(amount(i, kind)), counted), 0.0);
    }
    let reached = workgroup_sum_vec4(sums, lane).xyz >= vec3<f32>(goal);
    found |= dot(select(vec3<u32>(0u), vec3<u32>(1u), reached), vec3<u32>(1u)) << shift;
  }
  return found;
}

// The first token at which the running sum, in the order of tokens, exceeds `goal` (`fraction` of the total where
// `relative`); the last one that counts at all if rounding keeps the sum below it. Each round narrows the range to one lane's.
fn locate(fraction: f32, relative: bool, kind: u32, lane: u32) -> u32 {
  var first = 0u;
  var goal = fraction;
  for (var range = params.vocabulary; ; ) {
    let size = (range + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
    let end = min(first + range, params.vocabulary);
    var sum = 0.0;
    for (var i = first + lane * size; i < min(first + (lane + 1u) * size, end); i++) {
      sum += amount(i, kind);
    }
    lane_sums[lane] = sum;
    // Every lane's sum is written before it is read.
    workgroupBarrier();
    if (relative && range == params.vocabulary) {
      var total = 0.0;
      for (var s = 0u; s < WORKGROUP_SIZE; s++) {
        total += lane_sums[s];
      }
      goal = fraction * total;
    }
    var pick = 0u;
    var before = 0.0;
    var running = 0.0;
    var passed = false;
    for (var s = 0u; s < WORKGROUP_SIZE; s++) {
      let lane_sum = lane_sums[s];
      if (!passed && lane_sum > 0.0) {
        pick = s;
        before = running;
        passed = running + lane_sum > goal;
      }
      running += lane_sum;
    }
    first += pick * size;
    goal -= before;
    range = size;
    // Every sum is read before the next round writes its own.
    workgroupBarrier();
    if (size == 1u) {
      break;
    }
  }
  return first;
}

// Reads the logits once, leaves the scores in `scores`, and returns whether the row can be sampled from.
fn read_scores(row: u32, slot: u32, lane: u32) -> bool {
  let penalty = bitcast<f32>(sampling[slot * SAMPLING_WORDS + REPETITION_PENALTY]);
  var largest = MASKED;
  var unusable = 0.0;
  for (var i = lane; i < params.vocabulary; i += WORKGROUP_SIZE) {
    let bits = logits[params.offset + row * params.row_stride + i];
    let is_seen = ((seen[slot * params.seen_words + i / 32u] >> (i % 32u)) & 1u) == 1u;
    let score = penalised(bits, is_seen, penalty);
    scores[row_start + i] = score;
    largest = max(largest, score);
    unusable = select(unusable, 1.0, is_unusable(bits));
  }
  highest = workgroup_max(largest, lane);
  let failed = workgroup_max(unusable, lane);
  // Other invocations read these scores.
  storageBarrier();
  return failed == 0.0 && highest > MASKED;
}

fn filter_top_p(top_p: f32, lane: u32) {
  let goal = top_p * sum_from(0u, WEIGHT, lane);
  threshold = largest_key(max(goal, 1e-30), WEIGHT, lane);
  let above = sum_from(threshold + 1u, WEIGHT, lane);
  let tie = weight_of(score_of_key(threshold));
  let ties = select(1.0, max(1.0, ceil((goal - above) / max(tie, 1e-30))), tie > 0.0);
  last_tie = locate(ties - 0.5, false, IS_TIE, lane);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = group.y * groups.x + group.x;
  if (row >= params.rows) {
    return;
  }
  let entry = row_table[row];
  if (entry.x >= params.slots) {
    return;
  }
  let settings = entry.x * SAMPLING_WORDS;
  row_start = row * params.vocabulary;
  temperature = bitcast<f32>(sampling[settings + TEMPERATURE]);
  min_p = bitcast<f32>(sampling[settings + MIN_P]);
  let usable = read_scores(row, entry.x, lane);
  let top_k = sampling[settings + TOP_K];
  if (top_k > 0u && top_k < params.vocabulary) {
    threshold = largest_key(f32(top_k), COUNT, lane);
  }
  let top_p = bitcast<f32>(sampling[settings + TOP_P]);
  if (top_p < 1.0) {
    filter_top_p(top_p, lane);
  }
  let random = philox(vec4<u32>(entry.y, 0u, 0u, 0u), vec2<u32>(sampling[settings + SEED], sampling[settings + SEED + 1u]));
  // Greedy rows take the first of the largest scores.
  let u = select((f32(random.x >> 8u) + 0.5) / 16777216.0, 0.0, temperature == 0.0);
  let token = locate(u, true, KEPT_WEIGHT, lane);
  if (lane == 0u) {
    best[row] = vec2<u32>(0u, select(FAILED, token, usable));
  }
}
