// dx[n, v] = dloss · (a · p[n, v] − (1 − ε) · w[t] · [v = t] − ε / V) / count,  p = exp(x − lse),  a = (1 − ε) · w[t] + ε;
// x the logits, t the row's target; 0 in rows whose target is ignored
//
// in:  logits [rows, vocabulary] f32; row n begins at `offset + n / inner · row_stride + n % inner`, its entries are `inner` apart
//      targets [rows] i32; lse, counts [rows] f32, counts[n] = w[t]; count, dloss [1] f32
// out: dlogits, contiguous in the order of logits
// One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: lse, counts and count come from the forward pass; no class weights where ε > 0.

struct Params {
  rows: u32,
  vocabulary: u32,
  offset: u32,
  row_stride: u32,
  inner: u32,
  smoothing: f32,
}

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<i32>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(3) var<storage, read> counts: array<f32>;
@group(0) @binding(4) var<storage, read> count: array<f32>;
@group(0) @binding(5) var<storage, read> dloss: array<f32>;
@group(0) @binding(6) var<storage, read_write> dlogits: array<f32>;
@group(0) @binding(7) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.rows * params.vocabulary) {
    return;
  }
  let block = params.vocabulary * params.inner;
  let row = i / block * params.inner + i % params.inner;
  let v = i % block / params.inner;
  var gradient = 0.0;
  let weight = counts[row];
  if (weight != 0.0) {
    let p = exp(logits[params.offset + i / block * params.row_stride + i % block] - lse[row]);
    let on_target = (1.0 - params.smoothing) * weight;
    let label = select(0.0, on_target, u32(targets[row]) == v) + params.smoothing / f32(params.vocabulary);
    gradient = dloss[0] * ((on_target + params.smoothing) * p - label) / count[0];
  }
  dlogits[i] = gradient;
}
