// out[n, i] = −∞ where token i is banned in row n, logits[n, i] elsewhere
//
// in:  logits [rows, vocabulary] f32 as bits (copied whatever they are), rows `row_stride` apart from `offset` on; banned
//      [rows, words]: a bit a token
// out: out [rows, vocabulary] f32 as bits
// One workgroup: 64 elements. One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: none. Source: the rules are the host's (token_rules.ts).

struct Params {
  rows: u32,
  vocabulary: u32,
  offset: u32,
  row_stride: u32,
  words: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read> banned: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;

// The bits of −∞: WGSL may assume that no float has them.
const MINUS_INFINITY: u32 = 0xff800000u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.rows * params.vocabulary) {
    return;
  }
  let row = i / params.vocabulary;
  let token = i % params.vocabulary;
  let is_banned = ((banned[row * params.words + token / 32u] >> (token % 32u)) & 1u) == 1u;
  out[i] = select(logits[params.offset + row * params.row_stride + token], MINUS_INFINITY, is_banned);
}
