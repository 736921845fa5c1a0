// out[n] = n mod every = 0 ? x[n / every] : 0
//
// in:  x [ceil(rows / every), columns] f32, rows `row_stride` apart from `offset` on
// out: out [rows, columns] f32
// One invocation: one element of out.
// Workgroup memory: 0 bytes.
// Preconditions: every ≥ 1.

struct Params {
  rows: u32,
  columns: u32,
  every: u32,
  offset: u32,
  row_stride: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.rows * params.columns) {
    return;
  }
  let row = i / params.columns;
  var value = 0.0;
  if (row % params.every == 0u) {
    value = x[params.offset + row / params.every * params.row_stride + i % params.columns];
  }
  out[i] = value;
}
