// out[i] = (factor[i] = 0 ? 0 : factor[i] · x[i]) + shift[i]: a value replaced, scaled, added to or switched off, element by element.
//
// in:  x [rows, columns] f32 with its own offset and row stride; factor, shift [rows, columns] or [columns] f32
// out: out [rows, columns] f32
// One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: none; where factor is 0, x may be anything, NaN too.

struct Params {
  rows: u32,
  columns: u32,
  offset: u32,
  row_stride: u32,
  // Elements of factor and shift, after which they begin again.
  period: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> factor: array<f32>;
@group(0) @binding(3) var<storage, read> shift: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i < params.rows * params.columns) {
    let value = x[params.offset + i / params.columns * params.row_stride + i % params.columns];
    let own = factor[i % params.period];
    out[i] = select(own * value, 0.0, own == 0.0) + shift[i % params.period];
  }
}
