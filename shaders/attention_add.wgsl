// out[b, h, i, j] = scores[b, h, i, j] + relative[b, h, j − i + T − 1]
//
// in:  scores [B, H, T, S] f32; relative [B|1, H, T + S − 1] f32 (relative_batch 0: the same for every sequence)
// out: out [B, H, T, S] f32
// One workgroup: 64 elements. One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: count = B · H · T · S. Source: Raffel et al., "T5" (2020), §2.1.

struct Params {
  count: u32,
  heads: u32,
  queries: u32,
  keys: u32,
  relative_batch: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> scores: array<f32>;
@group(0) @binding(2) var<storage, read> relative: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = id.y * groups.x * 64u + id.x;
  if (at >= params.count) {
    return;
  }
  let row = at / params.keys;
  let head = row / params.queries % params.heads;
  let batch = row / params.queries / params.heads;
  let distance = at % params.keys + params.queries - 1u - row % params.queries;
  out[at] = scores[at] + relative[batch * params.relative_batch + head * (params.queries + params.keys - 1u) + distance];
}
