// out[n, c] = x[n, c] · rstd · (weight[c] + shift),  rstd = 1 / √(mean_c(x²) + eps)
//
// in:  x [rows / heads, heads · columns] f32, `row_stride` apart from `offset` on (all in Elem: f32 or vec4<f32>)
//      weight [columns] f32; `shift` is 1 for checkpoints that store the gain less 1, else 0
// out: out [rows, columns] f32
// One row: ROW_LANES invocations, a whole workgroup on GPUs, one invocation on CPU adapters.
// Workgroup memory: that of the linked reduction.
// Preconditions: WORKGROUP_SIZE is a multiple of ROW_LANES, and ROW_LANES is 1 or WORKGROUP_SIZE.
// Source: Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), eq. 4.

struct Params {
  rows: u32,
  columns: u32,
  offset: u32,
  row_stride: u32,
  heads: u32,
  width: f32,
  eps: f32,
  shift: f32,
}

@group(0) @binding(0) var<storage, read> x: array<Elem>;
@group(0) @binding(1) var<storage, read> weight: array<Elem>;
@group(0) @binding(2) var<storage, read_write> out: array<Elem>;
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
  let head = row % params.heads * params.columns;
  let start = params.offset + row / params.heads * params.row_stride + head;

  var squares = 0.0;
  for (var c = lane; c < params.columns; c += ROW_LANES) {
    let v = x[start + c];
    squares += elem_sum(v * v);
  }
  let rstd = inverseSqrt(workgroup_sum(squares, local_index) / params.width + params.eps);
  if (index < params.rows) {
    for (var c = lane; c < params.columns; c += ROW_LANES) {
      out[row * params.columns + c] = x[start + c] * rstd * (weight[c] + params.shift);
    }
  }
}
