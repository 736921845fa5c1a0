// dx[i] = dy[i] · (1 − (y[i] / cap)²), for y = cap · tanh(x / cap).
//
// in:  y, dy [count] f32
// out: dx [count] f32
// One workgroup: 64 elements. One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: cap > 0. Source: Gemma Team, "Gemma 2" (2024), §2.

struct Params {
  count: u32,
  cap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.count) {
    return;
  }
  let ratio = y[i] / params.cap;
  dx[i] = dy[i] * (1.0 - ratio * ratio);
}
