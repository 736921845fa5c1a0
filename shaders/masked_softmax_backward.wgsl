// dscores[row, j] = probs[row, j] · (dprobs[row, j] − dots[row]), dots[row] = Σ_k probs[row, k] · dprobs[row, k]; 0 where masked.
//
// in:  probs, dprobs [rows, S] f32
// out: dscores [rows, S] f32; dots [rows] f32, for the gradient of the sinks
// One workgroup: WORKGROUP_SIZE / ROW_LANES rows, ROW_LANES invocations each. One invocation: every ROW_LANES-th key.
// Workgroup memory: that of the reduction.
// Preconditions: probs are exactly 0 where masked. Source: Dao, "FlashAttention-2" (2023), §2.2.

struct Params {
  rows: u32,
  keys: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> probs: array<f32>;
@group(0) @binding(2) var<storage, read> dprobs: array<f32>;
@group(0) @binding(3) var<storage, read_write> dscores: array<f32>;
@group(0) @binding(4) var<storage, read_write> dots: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let row = (group.y * groups.x + group.x) * (WORKGROUP_SIZE / ROW_LANES) + local / ROW_LANES;
  // Surplus rows repeat the last one and store nothing: a barrier follows.
  let first = min(row, params.rows - 1u) * params.keys;
  var dot = 0.0;
  for (var j = local % ROW_LANES; j < params.keys; j += ROW_LANES) {
    dot = fma(probs[first + j], dprobs[first + j], dot);
  }
  let row_dot = workgroup_sum(dot, local);
  if (row >= params.rows) {
    return;
  }
  for (var j = local % ROW_LANES; j < params.keys; j += ROW_LANES) {
    dscores[first + j] = probs[first + j] * (dprobs[first + j] - row_dot);
  }
  if (local % ROW_LANES == 0u) {
    dots[row] = row_dot;
  }
}
