// dx[o, c, i] = y[o, c, i] · (dy[o, c, i] − Σ_c y · dy);  where `logarithm` is 1, and y the logarithm, dy[o, c, i] − exp(y[o, c, i]) · Σ_c dy
//
// in:  y, dy [outer, columns, inner] f32; a row is one (o, i), rows = outer · inner
// out: dx, as y
// One row: ROW_LANES invocations, a whole workgroup on GPUs, one invocation on CPU adapters.
// Workgroup memory: that of the linked reduction.
// Preconditions: ROW_LANES is 1 or WORKGROUP_SIZE.

struct Params {
  rows: u32,
  columns: u32,
  inner: u32,
  logarithm: u32,
}

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
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
  let start = row / params.inner * params.columns * params.inner + row % params.inner;
  let is_log = params.logarithm != 0u;

  var part = 0.0;
  for (var c = lane; c < params.columns; c += ROW_LANES) {
    let at = start + c * params.inner;
    part += dy[at] * select(y[at], 1.0, is_log);
  }
  let sum = workgroup_sum(part, local_index);
  if (index < params.rows) {
    for (var c = lane; c < params.columns; c += ROW_LANES) {
      let at = start + c * params.inner;
      dx[at] = select(y[at] * (dy[at] - sum), dy[at] - exp(y[at]) * sum, is_log);
    }
  }
}
