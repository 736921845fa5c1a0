// out[n, c, i] = (x[n, c, i] − mean) · rstd · weight[c] + bias[c],  mean and rstd = 1 / √(var + eps) over a group of channels
//
// in:  x [rows, columns] f32, a row being one (n, group): the group's channels, each with `inner` elements
//      weight, bias [groups · channels] f32; bias is read where `has_bias` is 1 (else any buffer)
// out: out [rows, columns] f32
// One row: ROW_LANES invocations, a whole workgroup on GPUs, one invocation on CPU adapters.
// Workgroup memory: that of the linked reduction.
// Preconditions: ROW_LANES is 1 or WORKGROUP_SIZE; columns = channels · inner.
// Source: Wu and He, "Group Normalization" (2018), eq. 1, 2 and 7.

struct Params {
  rows: u32,
  columns: u32,
  inner: u32,
  groups: u32,
  has_bias: u32,
  width: f32,
  eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
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
  let start = row * params.columns;

  var sum = 0.0;
  for (var c = lane; c < params.columns; c += ROW_LANES) {
    sum += x[start + c];
  }
  let mean = workgroup_sum(sum, local_index) / params.width;
  // A second pass about the mean: Σx² − mean² loses every digit where the mean is large.
  var squares = 0.0;
  for (var c = lane; c < params.columns; c += ROW_LANES) {
    let v = x[start + c] - mean;
    squares += v * v;
  }
  let rstd = inverseSqrt(workgroup_sum(squares, local_index) / params.width + params.eps);
  let first = row % params.groups * (params.columns / params.inner);
  if (index < params.rows) {
    for (var c = lane; c < params.columns; c += ROW_LANES) {
      let channel = first + c / params.inner;
      var y = (x[start + c] - mean) * rstd * weight[channel];
      if (params.has_bias != 0u) {
        y += bias[channel];
      }
      out[start + c] = y;
    }
  }
}
