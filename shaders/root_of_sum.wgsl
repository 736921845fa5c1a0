// out[0] = √(Σ partial[i]) · unscale
//
// in:  partial [count] f32, none negative; unscale [1] f32, read where `scaled`
// out: out [1] f32
// One workgroup of WORKGROUP_SIZE: everything, in a fixed order.
// Workgroup memory: that of the linked reduction.
// Preconditions: one workgroup.

struct Params {
  count: u32,
  scaled: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read> unscale: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var i = lane; i < params.count; i += WORKGROUP_SIZE) {
    sum += partial[i];
  }
  let total = workgroup_sum(sum, lane);
  if (lane == 0u) {
    out[0] = sqrt(total) * select(1.0, unscale[0], params.scaled != 0u);
  }
}
