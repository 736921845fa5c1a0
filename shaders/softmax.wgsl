// out[o, c, i] = exp(x[o, c, i] − m) / Σ_c exp(x[o, c, i] − m),  m = max over c; its logarithm where `logarithm` is 1
//
// in:  x [outer, columns, inner] f32; a row is one (o, i), rows = outer · inner
// out: out, as x
// One row: ROW_LANES invocations, a whole workgroup on GPUs, one invocation on CPU adapters.
// Workgroup memory: that of the linked reduction.
// Preconditions: ROW_LANES is 1 or WORKGROUP_SIZE.

struct Params {
  rows: u32,
  columns: u32,
  inner: u32,
  logarithm: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

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
  let start = row / params.inner * params.columns * params.inner + row % params.inner;

  var largest = -3.4e38;
  for (var c = lane; c < params.columns; c += ROW_LANES) {
    largest = max(largest, x[start + c * params.inner]);
  }
  let highest = workgroup_max(largest, local_index);
  var part = 0.0;
  for (var c = lane; c < params.columns; c += ROW_LANES) {
    part += exp(x[start + c * params.inner] - highest);
  }
  let sum = workgroup_sum(part, local_index);
  if (index < params.rows) {
    for (var c = lane; c < params.columns; c += ROW_LANES) {
      let at = start + c * params.inner;
      let shifted = x[at] - highest;
      out[at] = select(exp(shifted) / sum, shifted - log(sum), params.logarithm != 0u);
    }
  }
}
