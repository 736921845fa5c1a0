// copied[i] = origin[i]: what memory gives when nothing is computed.
//
// in:  origin [count] vec4<f32>
// out: copied [count] vec4<f32>
// One workgroup: 64 invocations. One invocation: every `stride`-th element, from its own number on.
// Workgroup memory: 0 bytes.
// Preconditions: both arrays hold `count` elements; `stride` is the number of invocations.

struct Params {
  count: u32,
  stride: u32,
}

@group(0) @binding(0) var<storage, read> origin: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> copied: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  for (var i = id.x; i < params.count; i += params.stride) {
    copied[i] = origin[i];
  }
}
