// out[b, h, r] = weight[bucket(d), h] for the distance d = j − p = r − (T − 1) − start[b]: T5's bias as a row of distances.
//
// in:  weight [buckets, H] f32; starts [B] u32 (bound to weight and not read where has_starts is 0)
// out: out [B|1, H, T + S − 1] f32: query i of key j reads element j − i + T − 1
// One workgroup: 64 elements. One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: see relative_bucket.wgsl. Source: Raffel et al., "T5" (2020), §2.1.

struct Params {
  batches: u32,
  heads: u32,
  distances: u32,
  queries: u32,
  start: u32,
  has_starts: u32,
  buckets: u32,
  max_distance: u32,
  bidirectional: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> starts: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = id.y * groups.x * 64u + id.x;
  if (at >= params.batches * params.heads * params.distances) {
    return;
  }
  let batch = at / params.distances / params.heads;
  let start = select(params.start, starts[batch], params.has_starts != 0u);
  let distance = i32(at % params.distances) - i32(params.queries) + 1 - i32(start);
  out[at] = weight[relative_bucket(distance) * params.heads + at / params.distances % params.heads];
}
