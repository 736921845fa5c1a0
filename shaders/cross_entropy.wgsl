// lse[n] = log Σ_v exp(logits[n, v]),  losses[n] = lse[n] − logits[n, target[n]], 0 where the target is ignored
//
// in:  logits [rows, vocabulary] f32 (in Elem: f32 or vec4<f32>), rows `row_stride` apart from `offset` on
//      targets [rows] i32; a target outside [0, vocabulary) is ignored
// out: losses, lse [rows] f32
// One row: ROW_LANES invocations, a whole workgroup on GPUs, one invocation on CPU adapters.
// Workgroup memory: that of the linked reduction.
// Preconditions: ROW_LANES is 1 or WORKGROUP_SIZE.

struct Params {
  rows: u32,
  vocabulary: u32,
  columns: u32,
  offset: u32,
  row_stride: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<Elem>;
@group(0) @binding(1) var<storage, read> targets: array<i32>;
@group(0) @binding(2) var<storage, read_write> losses: array<f32>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;
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

  var largest = -3.4e38;
  for (var c = lane; c < params.columns; c += ROW_LANES) {
    largest = max(largest, elem_max(logits[start + c]));
  }
  let highest = workgroup_max(largest, local_index);
  var sum = 0.0;
  for (var c = lane; c < params.columns; c += ROW_LANES) {
    sum += elem_sum(exp(logits[start + c] - highest));
  }
  let row_lse = highest + log(workgroup_sum(sum, local_index));
  if (lane == 0u && index < params.rows) {
    lse[row] = row_lse;
    let label = targets[row];
    var loss = 0.0;
    if (label >= 0 && u32(label) < params.vocabulary) {
      loss = row_lse - elem_at(logits[start + u32(label) / ELEM_WIDTH], u32(label) % ELEM_WIDTH);
    }
    losses[row] = loss;
  }
}
