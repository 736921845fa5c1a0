// acc = acc · factor + offset, `rounds` times, on 8 independent vec4 accumulators per invocation.
//
// in:  none
// out: out [invocations] f32, the accumulators' sum, so that no work can be dropped
// One workgroup: 64 invocations. One invocation: rounds · 8 · 4 fused multiply-adds.
// Workgroup memory: 0 bytes.
// Preconditions: out holds one f32 per invocation; the accumulators stay bounded for |factor| < 1.

struct Params {
  rounds: u32,
  factor: f32,
  offset: f32,
}

@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@group(0) @binding(1) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  // Eight chains hide the latency of one multiply-add on every device that was looked at.
  let start = vec4<f32>(0.0, 1.0, 2.0, 3.0) + f32(id.x & 63u);
  var a = start;
  var b = start + 4.0;
  var c = start + 8.0;
  var d = start + 12.0;
  var e = start + 16.0;
  var f = start + 20.0;
  var g = start + 24.0;
  var h = start + 28.0;
  let factor = vec4<f32>(params.factor);
  let offset = vec4<f32>(params.offset);
  for (var i = 0u; i < params.rounds; i++) {
    a = fma(a, factor, offset);
    b = fma(b, factor, offset);
    c = fma(c, factor, offset);
    d = fma(d, factor, offset);
    e = fma(e, factor, offset);
    f = fma(f, factor, offset);
    g = fma(g, factor, offset);
    h = fma(h, factor, offset);
  }
  let sum = a + b + c + d + e + f + g + h;
  out[id.x] = sum.x + sum.y + sum.z + sum.w;
}
