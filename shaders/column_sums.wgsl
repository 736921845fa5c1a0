// out[p, c] = Σ_n x[n, c] over the rows n of part p: rows_per_part consecutive ones, in order
//
// in:  x [rows, columns] f32, rows `row_stride` apart from `offset` on (all in Elem: f32 or vec4<f32>)
// out: out [parts, columns] f32; run again over its own output until one part is left
// One workgroup: 64 columns of one part. One invocation: one column.
// Workgroup memory: 0 bytes.
// Preconditions: workgroups are (⌈columns / 64⌉, parts).

struct Params {
  rows: u32,
  columns: u32,
  offset: u32,
  row_stride: u32,
  rows_per_part: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Elem>;
@group(0) @binding(1) var<storage, read_write> out: array<Elem>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local_index: u32) {
  let c = group.x * 64u + local_index;
  if (c >= params.columns) {
    return;
  }
  let first = group.y * params.rows_per_part;
  let last = min(first + params.rows_per_part, params.rows);
  var sum = Elem(0.0);
  for (var n = first; n < last; n++) {
    sum += x[params.offset + n * params.row_stride + c];
  }
  out[group.y * params.columns + c] = sum;
}
