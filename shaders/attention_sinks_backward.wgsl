// dsinks[h] = −Σ_{b, i} exp(sinks[h] − lse[b, h, i]) · dots[b, h, i]: a sink's value is 0, so its dprob is 0.
//
// in:  sinks [H], lse [B, H, T], dots [B, H, T] f32 from masked_softmax_backward.wgsl
// out: dsinks [H] f32
// One workgroup: 64 heads. One invocation: one head, its rows in order of b, then i.
// Workgroup memory: 0 bytes.
// Preconditions: lse includes the sink. Source: Dao, "FlashAttention-2" (2023), §2.2, for one more key of value 0.

struct Params {
  batches: u32,
  heads: u32,
  queries: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sinks: array<f32>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(3) var<storage, read> dots: array<f32>;
@group(0) @binding(4) var<storage, read_write> dsinks: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let head = id.x;
  if (head >= params.heads) {
    return;
  }
  let sink = sinks[head];
  var sum = 0.0;
  for (var batch = 0u; batch < params.batches; batch++) {
    let first = (batch * params.heads + head) * params.queries;
    for (var i = first; i < first + params.queries; i++) {
      sum = fma(exp(sink - lse[i]), dots[i], sum);
    }
  }
  dsinks[head] = -sum;
}
