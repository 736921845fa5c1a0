// dlogits[n, v] = dloss · (exp(logits[n, v] − lse[n]) − [v = target[n]]) / count, 0 in rows whose target is ignored
//
// in:  logits [rows, vocabulary] f32, rows `row_stride` apart from `offset` on; targets [rows] i32; lse [rows] f32
//      count, dloss [1] f32
// out: dlogits [rows, vocabulary] f32
// One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: lse and count come from the forward pass.

struct Params {
  rows: u32,
  vocabulary: u32,
  offset: u32,
  row_stride: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<i32>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(3) var<storage, read> count: array<f32>;
@group(0) @binding(4) var<storage, read> dloss: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<f32>;
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.rows * params.vocabulary) {
    return;
  }
  let row = i / params.vocabulary;
  let v = i % params.vocabulary;
  let label = targets[row];
  var gradient = 0.0;
  if (label >= 0 && u32(label) < params.vocabulary) {
    let p = exp(logits[params.offset + row * params.row_stride + v] - lse[row]);
    gradient = dloss[0] * (p - select(0.0, 1.0, u32(label) == v)) / count[0];
  }
  dlogits[i] = gradient;
}
