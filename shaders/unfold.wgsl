// out[b, t, c · kernel + k] = x[b, t · stride + k − padding, c], 0 outside of the sequence
//
// in:  x [batch · length, channels] f32, row b · length + s, rows `row_stride` apart from `offset` on
// out: out [batch · steps, channels · kernel] f32
// One invocation: one element of out.
// Workgroup memory: 0 bytes.
// Preconditions: steps = ⌊(length + 2 · padding − kernel) / stride⌋ + 1.

struct Params {
  batch: u32,
  length: u32,
  channels: u32,
  steps: u32,
  kernel: u32,
  stride: u32,
  padding: u32,
  offset: u32,
  row_stride: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  let columns = params.channels * params.kernel;
  let row = i / columns;
  if (row >= params.batch * params.steps) {
    return;
  }
  let column = i % columns;
  // One less than 0 is more than any length.
  let s = row % params.steps * params.stride + column % params.kernel - params.padding;
  var value = 0.0;
  if (s < params.length) {
    let source = row / params.steps * params.length + s;
    value = x[params.offset + source * params.row_stride + column / params.kernel];
  }
  out[i] = value;
}
