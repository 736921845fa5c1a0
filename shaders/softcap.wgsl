// y[i] = cap · tanh(x[i] / cap).
//
// in:  x [count] f32
// out: y [count] f32
// One workgroup: 64 elements. One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: cap > 0. Source: Gemma Team, "Gemma 2" (2024), §2.

struct Params {
  count: u32,
  cap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.count) {
    return;
  }
  // Past ±15 tanh is ±1 in f32, and its exponentials would overflow.
  y[i] = params.cap * tanh(clamp(x[i] / params.cap, -15.0, 15.0));
}
