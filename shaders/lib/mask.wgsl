// Which keys a query may attend to: the one place that knows the mask, for every attention kernel.
//
// A query at position p keeps key j if  p − left ≤ j ≤ p + ahead,  j ≤ p + right or j < prefix,  and  j < keys  (keys:
// length of its sequence). causal: right = 0. window w: left = w − 1; window {left, right}: left and ahead, which hide prefix
// keys too. No bound: UNBOUNDED, small enough that no sum below wraps. For one query these keys are an interval.
// The linking kernel has params.left, params.right and params.ahead (u32); positions are below 2^30.

// The finite stand-in for −∞, in scores, row maxima and lse: WGSL may assume that there are no infinities.
const MASKED: f32 = -1e30;

fn mask_keeps(position: u32, key: u32, keys: u32, prefix: u32) -> bool {
  // min and max and & instead of &&: each && is a branch, and with 16 calls in one kernel SwiftShader's compiler takes
  // minutes and gigabytes over the branches (1.5 s without them).
  return (key + params.left >= position) & (key < mask_end(position, keys, prefix));
}

// The same of four pairs at once.
fn mask_keeps4(positions: vec4<u32>, key: vec4<u32>, keys: u32, prefix: u32) -> vec4<bool> {
  let by_ahead = min(vec4<u32>(keys), positions + params.ahead + 1u);
  let by_right = max(vec4<u32>(prefix), positions + params.right + 1u);
  return (key + params.left >= positions) & (key < min(by_ahead, by_right));
}

// Keys that some query at positions first..last may keep are in [mask_begin(first), mask_end(last, keys, prefix)).
fn mask_begin(first: u32) -> u32 {
  return select(0u, first - params.left, first > params.left);
}

fn mask_end(last: u32, keys: u32, prefix: u32) -> u32 {
  return min(min(keys, last + params.ahead + 1u), max(prefix, last + params.right + 1u));
}

// Queries that may keep some key in first..last stand at positions [mask_query_begin(first, prefix), mask_query_end(last)).
fn mask_query_begin(first: u32, prefix: u32) -> u32 {
  let by_right = select(first - min(first, params.right), 0u, first < prefix);
  return max(by_right, first - min(first, params.ahead));
}

fn mask_query_end(last: u32) -> u32 {
  return last + params.left + 1u;
}

// True if every query at positions first..last keeps every key in [key_begin, key_end): no test is needed inside.
fn mask_keeps_all(first: u32, last: u32, key_begin: u32, key_end: u32, keys: u32, prefix: u32) -> bool {
  return key_begin + params.left >= last && key_end <= mask_end(first, keys, prefix);
}
