// partial[first + g] = Σ x[i]²  over the stretch of elements that workgroup g has
//
// in:  x [count] f32
// out: partial f32, one sum a workgroup, from `first` on
// One workgroup of WORKGROUP_SIZE: `stretch` consecutive elements, each invocation every WORKGROUP_SIZE-th of them.
// Workgroup memory: that of the linked reduction.
// Preconditions: a one-dimensional grid.

struct Params {
  count: u32,
  stretch: u32,
  first: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let end = min((group.x + 1u) * params.stretch, params.count);
  var sum = 0.0;
  for (var i = group.x * params.stretch + lane; i < end; i += WORKGROUP_SIZE) {
    sum += x[i] * x[i];
  }
  let total = workgroup_sum(sum, lane);
  if (lane == 0u) {
    partial[params.first + group.x] = total;
  }
}
