// dx[b, s, c] = Σ_k dout[b, t, c · kernel + k] over the k for which t = (s + padding − k) / stride is a step
//
// in:  dout [batch · steps, channels · kernel] f32, rows `grad_stride` apart from `grad_offset` on
// out: dx [batch · length, channels] f32
// One invocation: one element of dx.
// Workgroup memory: 0 bytes.
// Preconditions: as unfold.wgsl.

struct Params {
  batch: u32,
  length: u32,
  channels: u32,
  steps: u32,
  kernel: u32,
  stride: u32,
  padding: u32,
  grad_offset: u32,
  grad_stride: u32,
}

@group(0) @binding(0) var<storage, read> dout: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  let row = i / params.channels;
  if (row >= params.batch * params.length) {
    return;
  }
  let channel = i % params.channels;
  let shifted = row % params.length + params.padding;
  var sum = 0.0;
  for (var k = shifted % params.stride; k < params.kernel && k <= shifted; k += params.stride) {
    let t = (shifted - k) / params.stride;
    if (t < params.steps) {
      let source = row / params.length * params.steps + t;
      sum += dout[params.grad_offset + source * params.grad_stride + channel * params.kernel + k];
    }
  }
  dx[i] = sum;
}
