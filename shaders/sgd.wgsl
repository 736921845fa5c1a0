// direction = grad + weight_decay · param;  with momentum: velocity = momentum · velocity + direction, direction = velocity
// param = param − lr · direction
//
// in:  grad [..] f32, read from `grad_offset` on; lr [1] f32
// out: param [count] f32; velocity [count] f32 where HAS_MOMENTUM
// One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: velocity starts at 0.

struct Params {
  count: u32,
  grad_offset: u32,
  momentum: f32,
  weight_decay: f32,
}

@group(0) @binding(0) var<storage, read> grad: array<f32>;
@group(0) @binding(1) var<storage, read> lr: array<f32>;
@group(0) @binding(2) var<storage, read_write> param: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.count) {
    return;
  }
  let direction = grad[params.grad_offset + i] + params.weight_decay * param[i];
  param[i] -= lr[0] * momentum_step(i, direction);
}
