// dx[n, c] = dout[n, c] · activate'(x[n, c])
//
// in:  x, dout [rows, columns] f32, each with its own offset and row stride
// out: dx [rows, columns] f32
// One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: a part lib/activation_*.wgsl is linked.

struct Params {
  rows: u32,
  columns: u32,
  offset: u32,
  row_stride: u32,
  grad_offset: u32,
  grad_stride: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dout: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.rows * params.columns) {
    return;
  }
  let row = i / params.columns;
  let column = i % params.columns;
  let grad = dout[params.grad_offset + row * params.grad_stride + column];
  dx[i] = grad * activate_grad(x[params.offset + row * params.row_stride + column]);
}
