// g = unscale · grad · min(1, max_norm / (norm + 1e-6)) + l2 · param;  m = β₁ m + (1 − β₁) g;  v = β₂ v + (1 − β₂) g²
// param = param · (1 − lr · decay) − lr · m̂ / (√v̂ + eps),  m̂ = m / (1 − β₁^t),  v̂ = v / (1 − β₂^t)
//
// in:  grad f32, read from `grad_offset` on; norm [1] f32, of all gradients without their scale; unscale [1] f32, read where `scaled`; schedule [1] f32: lr; step [1] u32: steps done, t − 1
// out: param, m, v [count] f32
// Where norm is not finite nothing is written: one bad batch must not reach the parameters.
// One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: m and v start at 0; a max_norm of 0 clips nothing.
// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), Alg. 2; Pascanu et al. (2013), Alg. 1.

struct Params {
  count: u32,
  grad_offset: u32,
  beta1: f32,
  beta2: f32,
  eps: f32,
  decay: f32,
  l2: f32,
  max_norm: f32,
  scaled: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grad: array<f32>;
@group(0) @binding(2) var<storage, read> norm: array<f32>;
@group(0) @binding(3) var<storage, read> schedule: array<f32>;
@group(0) @binding(4) var<storage, read> step: array<u32>;
@group(0) @binding(5) var<storage, read_write> param: array<f32>;
@group(0) @binding(6) var<storage, read_write> m: array<f32>;
@group(0) @binding(7) var<storage, read_write> v: array<f32>;
@group(0) @binding(8) var<storage, read> unscale: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  let finite = (bitcast<u32>(norm[0]) & 0x7f800000u) != 0x7f800000u;
  if (i >= params.count || !finite) {
    return;
  }
  let clip = select(1.0, min(1.0, params.max_norm / (norm[0] + 1e-6)), params.max_norm > 0.0);
  let factor = clip * select(1.0, unscale[0], params.scaled != 0u);
  let g = grad[params.grad_offset + i] * factor + params.l2 * param[i];
  let m_next = params.beta1 * m[i] + (1.0 - params.beta1) * g;
  let v_next = params.beta2 * v[i] + (1.0 - params.beta2) * g * g;
  m[i] = m_next;
  v[i] = v_next;
  let t = f32(step[0] + 1u);
  let m_hat = m_next / (1.0 - pow(params.beta1, t));
  let v_hat = v_next / (1.0 - pow(params.beta2, t));
  let lr = schedule[0];
  param[i] = param[i] * (1.0 - lr * params.decay) - lr * m_hat / (sqrt(v_hat) + params.eps);
}
