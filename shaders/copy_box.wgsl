// out[out_offset + i · out_stride] = x[x_offset + i · x_stride] for every index i of a box of four axes.
//
// in:  x in Element, as words (box_words.wgsl) or widened from f16 to f32 (box_widened.wgsl)
// out: out, 4 bytes an element; what lies outside of the box is left alone
// One workgroup: 64 elements of the box. One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: `count` is the product of the sizes; the first size is not needed. Source: this engine's own.

struct Params {
  count: u32,
  size1: u32,
  size2: u32,
  size3: u32,
  x_offset: u32,
  x_stride0: u32,
  x_stride1: u32,
  x_stride2: u32,
  x_stride3: u32,
  out_offset: u32,
  out_stride0: u32,
  out_stride1: u32,
  out_stride2: u32,
  out_stride3: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Element>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = id.y * groups.x * 64u + id.x;
  if (index >= params.count) {
    return;
  }
  let i3 = index % params.size3;
  let i2 = index / params.size3 % params.size2;
  let i1 = index / params.size3 / params.size2 % params.size1;
  let i0 = index / params.size3 / params.size2 / params.size1;
  let at = params.x_offset + i0 * params.x_stride0 + i1 * params.x_stride1 + i2 * params.x_stride2 + i3 * params.x_stride3;
  let to = params.out_offset + i0 * params.out_stride0 + i1 * params.out_stride1 + i2 * params.out_stride2
    + i3 * params.out_stride3;
  out[to] = word_of(x[element_slot(at)], at);
}
