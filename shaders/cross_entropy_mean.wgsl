// loss = Σ_n losses[n] / count,  count = the rows whose target counts; 0 if there is none
//
// in:  losses [rows] f32, targets [rows] i32
// out: loss [1] f32, count [1] f32
// One workgroup in all: each invocation adds every WORKGROUP_SIZE-th row, then they are reduced in a fixed order.
// Workgroup memory: that of the linked reduction.
// Preconditions: rows ≤ 2^24, which f32 counts exactly.

struct Params {
  rows: u32,
  vocabulary: u32,
}

@group(0) @binding(0) var<storage, read> losses: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<i32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> count: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  var counted = 0.0;
  for (var n = lane; n < params.rows; n += WORKGROUP_SIZE) {
    sum += losses[n];
    let label = targets[n];
    counted += select(0.0, 1.0, label >= 0 && u32(label) < params.vocabulary);
  }
  let total = workgroup_sum(sum, lane);
  let rows = workgroup_sum(counted, lane);
  if (lane == 0u) {
    loss[0] = total / max(rows, 1.0);
    count[0] = rows;
  }
}
