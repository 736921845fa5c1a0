// sum = addend where `fresh` is not 0, else sum + addend
//
// in:  addend [..] f32, read from `addend_offset` on; fresh [1] u32
// out: sum [count] f32
// One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: none; a fresh sum does not read what was there, so that no NaN outlives its step.

struct Params {
  count: u32,
  addend_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> addend: array<f32>;
@group(0) @binding(2) var<storage, read> fresh: array<u32>;
@group(0) @binding(3) var<storage, read_write> sum: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.count) {
    return;
  }
  sum[i] = select(sum[i], 0.0, fresh[0] != 0u) + addend[params.addend_offset + i];
}
