// mean[n] = Σ_c x[n, c] / C,  rstd[n] = 1 / √(Σ_c (x[n, c] − mean[n])² / C + eps)
//
// in:  x [rows, columns] f32, rows `row_stride` apart from `offset` on (all in Elem: f32 or vec4<f32>)
// out: mean, rstd [rows] f32
// One row: ROW_LANES invocations, a whole workgroup on GPUs, one invocation on CPU adapters.
// Workgroup memory: that of the linked reduction.
// Preconditions: ROW_LANES is 1 or WORKGROUP_SIZE.

struct Params {
  rows: u32,
  columns: u32,
  offset: u32,
  row_stride: u32,
  width: f32,
  eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<Elem>;
@group(0) @binding(1) var<storage, read_write> mean: array<f32>;
@group(0) @binding(2) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local_index: u32,
) {
  let index = (group.y * groups.x + group.x) * (WORKGROUP_SIZE / ROW_LANES) + local_index / ROW_LANES;
  let lane = local_index % ROW_LANES;
  // Surplus rows do the work of the last one: an early return would stand before the reduction's barriers.
  let row = min(index, params.rows - 1u);
  let start = params.offset + row * params.row_stride;

  var sum = 0.0;
  for (var c = lane; c < params.columns; c += ROW_LANES) {
    sum += elem_sum(x[start + c]);
  }
  let centre = workgroup_sum(sum, local_index) / params.width;
  var squares = 0.0;
  for (var c = lane; c < params.columns; c += ROW_LANES) {
    let v = x[start + c] - centre;
    squares += elem_sum(v * v);
  }
  let variance = workgroup_sum(squares, local_index) / params.width;
  if (lane == 0u && index < params.rows) {
    mean[row] = centre;
    rstd[row] = inverseSqrt(variance + params.eps);
  }
}
