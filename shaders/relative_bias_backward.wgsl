// dweight[k, h] = Σ_{b, r: bucket(d) = k} dout[b, h, r], with the distances d of relative_bias.wgsl.
//
// in:  dout [B|1, H, T + S − 1] f32; starts [B] u32 (bound to dout and not read where has_starts is 0)
// out: dweight [buckets, H] f32
// One workgroup: 64 elements. One invocation: one element, its terms in order of b, then r.
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
@group(0) @binding(1) var<storage, read> dout: array<f32>;
@group(0) @binding(2) var<storage, read> starts: array<u32>;
@group(0) @binding(3) var<storage, read_write> dweight: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let at = id.x;
  if (at >= params.buckets * params.heads) {
    return;
  }
  var sum = 0.0;
  for (var batch = 0u; batch < params.batches; batch++) {
    let start = select(params.start, starts[batch], params.has_starts != 0u);
    let first = (batch * params.heads + at % params.heads) * params.distances;
    for (var r = 0u; r < params.distances; r++) {
      let bucket = relative_bucket(i32(r) - i32(params.queries) + 1 - i32(start));
      sum += select(0.0, dout[first + r], bucket == at / params.heads);
    }
  }
  dweight[at] = sum;
}
