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

// What a sum counts of each token: 1 from `threshold` on; its weight from `threshold` on; its weight if it is kept; 1 if it
// equals `threshold`.
const COUNT: u32 = 0u;
const WEIGHT: u32 = 1u;
const KEPT_WEIGHT: u32 = 2u;
const TIE: u32 = 3u;

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
  let kept = (key > threshold || (key == threshold && token <= last_tie)) && weight >= min_p;
  let counted = select(select(key >= threshold, kept, kind == KEPT_WEIGHT), key == threshold, kind == TIE);
  return select(0.0, select(1.0, weight, kind == WEIGHT || kind == KEPT_WEIGHT), counted);
}

struct Search {
  // The largest key such that the tokens at or above it sum to `goal` or more,
  key: u32,
  // what those strictly above it sum to,
  above: f32,
  // and the goal: as given, or that share of the total.
  goal: f32,
}

fn largest_key(given: f32, kind: u32, lane: u32) -> Search {
  var found = Search(0u, 0.0, given);
  for (var step = 0u; step < 16u; step++) {
    let shift = 30u - 2u * step;
    let digits = vec3<u32>(found.key) | (vec3<u32>(1u, 2u, 3u) << vec3<u32>(shift));
    var sums = vec4<f32>(0.0);
    for (var i = lane; i < params.vocabulary; i += WORKGROUP_SIZE) {
      let reached = vec3<u32>(order_key(scores[row_start + i])) >= digits;
      sums += amount(i, kind) * vec4<f32>(select(vec3<f32>(0.0), vec3<f32>(1.0), reached), 1.0);
    }
    let totals = workgroup_sum_vec4(sums, lane);
    if (kind == WEIGHT) {
      found.goal = max(given * totals.w, 1e-30);
    }
    let digit = dot(select(vec3<u32>(0u), vec3<u32>(1u), totals.xyz >= vec3<f32>(found.goal)), vec3<u32>(1u));
    // The next larger candidate was not reached. Once all further digits are 3, it is the key's successor.
    if (digit < 3u) {
      found.above = totals[digit];
    }
    found.key |= digit << shift;
  }
  return found;
}

// The first token at which the running sum, in the order of tokens, exceeds the goal: `given`, or that share of the total
// where weights are summed. The last one that counts at all if rounding keeps the sum below. Each round narrows the range
// to that of one lane.
fn locate(given: f32, kind: u32, lane: u32) -> u32 {
  var first = 0u;
  var goal = given;
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
    if (kind == KEPT_WEIGHT && range == params.vocabulary) {
      var total = 0.0;
      for (var s = 0u; s < WORKGROUP_SIZE; s++) {
        total += lane_sums[s];
      }
      goal = given * total;
    }
    var pick = 0u;
    var before = 0.0;
    var running = 0.0;
    for (var s = 0u; s < WORKGROUP_SIZE; s++) {
      let lane_sum = lane_sums[s];
      if (running <= goal && lane_sum > 0.0) {
        pick = s;
        before = running;
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
  let maxima = workgroup_max_vec4(vec4<f32>(largest, unusable, 0.0, 0.0), lane);
  highest = maxima.x;
  // Other invocations read these scores.
  storageBarrier();
  return maxima.y == 0.0 && highest > MASKED;
}

// How many of the tokens at the threshold top-p keeps: those before which the sum is still below the goal.
fn kept_ties(search: Search) -> f32 {
  let tie = weight_of(score_of_key(search.key));
  return select(1.0, max(1.0, ceil((search.goal - search.above) / max(tie, 1e-30))), tie > 0.0);
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
  let top_p = bitcast<f32>(sampling[settings + TOP_P]);
  let random = philox(vec4<u32>(entry.y, 0u, 0u, 0u), vec2<u32>(sampling[settings + SEED], sampling[settings + SEED + 1u]));
  // Loops, so that each search stands once in the code: drivers inline functions, and CPU adapters compile for seconds.
  var search: Search;
  for (var pass_kind = COUNT; pass_kind <= WEIGHT; pass_kind++) {
    if (select(top_k > 0u && top_k < params.vocabulary, top_p < 1.0, pass_kind == WEIGHT)) {
      search = largest_key(select(f32(top_k), top_p, pass_kind == WEIGHT), pass_kind, lane);
      threshold = search.key;
    }
  }
  // Greedy rows take the first of the largest scores.
  let u = select((f32(random.x >> 8u) + 0.5) / 16777216.0, 0.0, temperature == 0.0);
  var token = 0u;
  for (var kind = TIE; kind >= KEPT_WEIGHT; kind--) {
    if (kind == KEPT_WEIGHT || top_p < 1.0) {
      token = locate(select(u, kept_ties(search) - 0.5, kind == TIE), kind, lane);
      last_tie = select(last_tie, token, kind == TIE);
    }
  }
  if (lane == 0u) {
    best[row] = vec2<u32>(0u, select(FAILED, token, usable));
  }
}
