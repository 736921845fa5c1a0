// dx[b, t, c] = dout[b, c] · ∂out[b, c] / ∂x[b, t, c] for t < n_b, else 0; of the largest, the first of equals has it all
//
// in:  x [batch · length, columns] f32 as pool_rows.wgsl reads it; lengths [batch] u32; dout [batch, columns] f32, rows
//      `grad_stride` apart from `grad_offset` on
// out: dx [batch · length, columns] f32
// One invocation: one column of one sequence; neighbours write neighbouring columns of the same rows.
// Workgroup memory: 0 bytes.
// Preconditions: n_b ≤ length.

struct Params {
  batch: u32,
  length: u32,
  columns: u32,
  mode: u32,
  offset: u32,
  row_stride: u32,
  grad_offset: u32,
  grad_stride: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> lengths: array<u32>;
@group(0) @binding(2) var<storage, read> dout: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.batch * params.columns) {
    return;
  }
  let sequence = i / params.columns;
  let column = i % params.columns;
  let count = min(lengths[sequence], params.length);
  let first = params.offset + sequence * params.length * params.row_stride + column;
  var chosen = 0u;
  if (params.mode == MAX) {
    var largest = x[first];
    for (var t = 1u; t < count; t++) {
      let value = x[first + t * params.row_stride];
      if (value > largest) {
        largest = value;
        chosen = t;
      }
    }
  }
  let grad = dout[params.grad_offset + sequence * params.grad_stride + column];
  for (var t = 0u; t < params.length; t++) {
    var value = 0.0;
    if (t < count) {
      value = grad * select(row_share(params.mode, t, count), select(0.0, 1.0, t == chosen), params.mode == MAX);
    }
    dx[(sequence * params.length + t) * params.columns + column] = value;
  }
}
