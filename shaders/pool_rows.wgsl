// mean:          out[b, c] = Σ_{t < n_b} x[b, t, c] / n_b
// mean_sqrt_len: out[b, c] = Σ_{t < n_b} x[b, t, c] / √n_b
// weighted_mean: out[b, c] = Σ_{t < n_b} (t + 1) · x[b, t, c] / Σ_{t < n_b} (t + 1)
// last:          out[b, c] = x[b, n_b − 1, c]
// max:           out[b, c] = max_{t < n_b} x[b, t, c]
//
// in:  x [batch · length, columns] f32, row b · length + t, rows `row_stride` apart from `offset` on; lengths [batch] u32 (n_b)
// out: out [batch, columns] f32, 0 where n_b is 0
// One invocation: one element of out; neighbours read neighbouring columns of the same rows.
// Workgroup memory: 0 bytes.
// Preconditions: n_b ≤ length.

struct Params {
  batch: u32,
  length: u32,
  columns: u32,
  mode: u32,
  offset: u32,
  row_stride: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> lengths: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.batch * params.columns) {
    return;
  }
  let sequence = i / params.columns;
  let count = min(lengths[sequence], params.length);
  var at = params.offset + sequence * params.length * params.row_stride + i % params.columns;
  var sum = 0.0;
  var largest = 0.0;
  for (var t = 0u; t < count; t++) {
    let value = x[at];
    sum += value * row_share(params.mode, t, count);
    largest = select(max(largest, value), value, t == 0u);
    at += params.row_stride;
  }
  out[i] = select(sum, largest, params.mode == MAX);
}
