// direction = unscale · grad · min(1, max_norm / (norm + 1e-6)) + weight_decay · param;  with momentum: velocity = momentum · velocity + direction, direction = velocity
// param = param − lr · direction
//
// in:  grad [..] f32, read from `grad_offset` on; lr [1] f32; norm [1] f32, of all gradients without their scale; unscale [1] f32, read where `scaled`
// out: param [count] f32; velocity [count] f32 where HAS_MOMENTUM
// Where norm is not finite nothing is written: one bad batch must not reach the parameters.
// One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: velocity starts at 0; a max_norm of 0 clips nothing.

struct Params {
  count: u32,
  grad_offset: u32,
  momentum: f32,
  weight_decay: f32,
  max_norm: f32,
  scaled: u32,
}

@group(0) @binding(0) var<storage, read> grad: array<f32>;
@group(0) @binding(1) var<storage, read> lr: array<f32>;
@group(0) @binding(2) var<storage, read_write> param: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;
@group(0) @binding(5) var<storage, read> norm: array<f32>;
@group(0) @binding(6) var<storage, read> unscale: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  let finite = (bitcast<u32>(norm[0]) & 0x7f800000u) != 0x7f800000u;
  if (i >= params.count || !finite) {
    return;
  }
  let clip = select(1.0, min(1.0, params.max_norm / (norm[0] + 1e-6)), params.max_norm > 0.0);
  let factor = clip * select(1.0, unscale[0], params.scaled != 0u);
  let direction = grad[params.grad_offset + i] * factor + params.weight_decay * param[i];
  param[i] -= lr[0] * momentum_step(i, direction);
}
