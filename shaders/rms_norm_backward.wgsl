// With x̂ = x · rstd and g = dout · (weight + shift):
//   dx = rstd · (g − x̂ · mean_c(g · x̂)),   dscaled = dout · x̂, whose column sums are dweight
//
// in:  x, dout [rows / heads, heads · columns] f32 (`row_stride`, `grad_stride` apart from their offsets on)
//      weight [columns] f32
// out: dx, dscaled [rows, columns] f32
// One row: ROW_LANES invocations, as in rms_norm.wgsl.
// Workgroup memory: that of the linked reduction.
// Preconditions: as rms_norm.wgsl.
// Source: the derivative of Zhang and Sennrich (2019), eq. 4.

struct Params {
  rows: u32,
  columns: u32,
  offset: u32,
  row_stride: u32,
  grad_offset: u32,
  grad_stride: u32,
  heads: u32,
  width: f32,
  eps: f32,
  shift: f32,
}

@group(0) @binding(0) var<storage, read> x: array<Elem>;
@group(0) @binding(1) var<storage, read> weight: array<Elem>;
@group(0) @binding(2) var<storage, read> dout: array<Elem>;
@group(0) @binding(3) var<storage, read_write> dx: array<Elem>;
@group(0) @binding(4) var<storage, read_write> dscaled: array<Elem>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local_index: u32,
) {
  let index = (group.y * groups.x + group.x) * (WORKGROUP_SIZE / ROW_LANES) + local_index / ROW_LANES;
  let lane = local_index % ROW_LANES;
  let row = min(index, params.rows - 1u);
  let head = row % params.heads * params.columns;
  let start = params.offset + row / params.heads * params.row_stride + head;
  let grad_start = params.grad_offset + row / params.heads * params.grad_stride + head;

  var squares = 0.0;
  var products = 0.0;
  for (var c = lane; c < params.columns; c += ROW_LANES) {
    let v = x[start + c];
    squares += elem_sum(v * v);
    products += elem_sum(dout[grad_start + c] * (weight[c] + params.shift) * v);
  }
  let rstd = inverseSqrt(workgroup_sum(squares, local_index) / params.width + params.eps);
  let mean_product = workgroup_sum(products, local_index) * rstd / params.width;
  if (index < params.rows) {
    for (var c = lane; c < params.columns; c += ROW_LANES) {
      let at = row * params.columns + c;
      let x_hat = x[start + c] * rstd;
      let grad = dout[grad_start + c];
      dx[at] = rstd * (grad * (weight[c] + params.shift) - x_hat * mean_product);
      dscaled[at] = grad * x_hat;
    }
  }
}
