// loss = Σ_n losses[n] / count,  count = Σ_n counts[n], or 1 where `is_sum` is 1; 0 if nothing counts
//
// in:  losses, counts [rows] f32
// out: loss [1] f32, count [1] f32
// One workgroup in all: each invocation adds every WORKGROUP_SIZE-th row, then they are reduced in a fixed order.
// Workgroup memory: that of the linked reduction.
// Preconditions: rows ≤ 2^24, which f32 counts exactly.

struct Params {
  rows: u32,
  is_sum: u32,
}

@group(0) @binding(0) var<storage, read> losses: array<f32>;
@group(0) @binding(1) var<storage, read> counts: array<f32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> count: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  var counted = 0.0;
  for (var n = lane; n < params.rows; n += WORKGROUP_SIZE) {
    sum += losses[n];
    counted += counts[n];
  }
  let total = workgroup_sum(sum, lane);
  let rows = workgroup_sum(counted, lane);
  if (lane == 0u) {
    let divisor = select(rows, 1.0, params.is_sum != 0u);
    loss[0] = select(0.0, total / divisor, divisor > 0.0);
    count[0] = divisor;
  }
}
