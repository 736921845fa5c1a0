// out[n, out_first + j] = j in [start, start + count) ? x[n, j − start] : 0   for j in [0, span)
//
// in:  x [rows, count] f32, rows `row_stride` apart from `offset` on
// out: out [rows, out_columns] f32, of which columns [out_first, out_first + span) are written
// One invocation: one element of those columns.
// Workgroup memory: 0 bytes.
// Preconditions: start + count ≤ span; out_first + span ≤ out_columns.

struct Params {
  rows: u32,
  span: u32,
  start: u32,
  count: u32,
  offset: u32,
  row_stride: u32,
  out_first: u32,
  out_columns: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.rows * params.span) {
    return;
  }
  let row = i / params.span;
  let column = i % params.span;
  var value = 0.0;
  if (column >= params.start && column - params.start < params.count) {
    value = x[params.offset + row * params.row_stride + column - params.start];
  }
  out[row * params.out_columns + params.out_first + column] = value;
}
