// out[n, c] = (x[n, c] − mean) · rstd · weight[c] + bias[c],  rstd = 1 / √(var + eps), var about the mean
//
// in:  x [rows, columns] f32, rows `row_stride` apart from `offset` on (all in Elem: f32 or vec4<f32>)
//      weight [columns] f32; bias [columns] f32, read where `has_bias` is 1 (else any buffer)
// out: out [rows, columns] f32
// One row: ROW_LANES invocations, a whole workgroup on GPUs, one invocation on CPU adapters.
// Workgroup memory: that of the linked reduction.
// Preconditions: WORKGROUP_SIZE is a multiple of ROW_LANES, and ROW_LANES is 1 or WORKGROUP_SIZE.
// Source: Ba, Kiros and Hinton, "Layer Normalization" (2016), eq. 3–4.

struct Params {
  rows: u32,
  columns: u32,
  offset: u32,
  row_stride: u32,
  has_bias: u32,
  width: f32,
  eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<Elem>;
@group(0) @binding(1) var<storage, read> weight: array<Elem>;
@group(0) @binding(2) var<storage, read> bias: array<Elem>;
@group(0) @binding(3) var<storage, read_write> out: array<Elem>;
@group(0) @binding(4) var<uniform> params: Params;

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
  let mean = workgroup_sum(sum, local_index) / params.width;
  // A second pass about the mean: Σx² − mean² loses every digit where the mean is large.
  var squares = 0.0;
  for (var c = lane; c < params.columns; c += ROW_LANES) {
    let v = x[start + c] - mean;
    squares += elem_sum(v * v);
  }
  let rstd = inverseSqrt(workgroup_sum(squares, local_index) / params.width + params.eps);
  if (index < params.rows) {
    for (var c = lane; c < params.columns; c += ROW_LANES) {
      var y = (x[start + c] - mean) * rstd * weight[c];
      if (params.has_bias != 0u) {
        y += bias[c];
      }
      out[row * params.columns + c] = y;
    }
  }
}
