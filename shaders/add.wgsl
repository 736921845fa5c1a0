// out[n, c] = a_factor · a[n, c] + b_factor · b[n, c]
//
// in:  a, b [rows, columns] f32, each with its own offset and row stride (in Elem: f32 or vec4<f32>)
// out: out [rows, columns] f32
// One invocation: one Elem.
// Workgroup memory: 0 bytes.
// Preconditions: out is neither a nor b.

struct Params {
  rows: u32,
  columns: u32,
  a_offset: u32,
  a_stride: u32,
  b_offset: u32,
  b_stride: u32,
  a_factor: f32,
  b_factor: f32,
}

@group(0) @binding(0) var<storage, read> a: array<Elem>;
@group(0) @binding(1) var<storage, read> b: array<Elem>;
@group(0) @binding(2) var<storage, read_write> out: array<Elem>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i < params.rows * params.columns) {
    let row = i / params.columns;
    let column = i % params.columns;
    let left = params.a_factor * a[params.a_offset + row * params.a_stride + column];
    out[i] = left + params.b_factor * b[params.b_offset + row * params.b_stride + column];
  }
}
