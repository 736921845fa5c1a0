// out[b, h, t, d] = d < D_in ? x[b, h, t, d] : 0, for d < D_out: heads copied to another width and layout.
//
// Fused attention reads vec4s: heads whose size or place is no multiple of four are copied to ones that are, as f32,
// and its result back.
// in:  x [B, H, T, D_in] by strides, in Element
// out: out [B, H, T, D_out] f32 by strides
// One workgroup: 64 elements of out. One invocation: one element.
// Workgroup memory: 0 bytes.
// Preconditions: `count` = B · H · T · D_out.

struct Params {
  count: u32,
  heads: u32,
  rows: u32,
  in_width: u32,
  out_width: u32,
  x_offset: u32,
  x_batch: u32,
  x_head: u32,
  x_row: u32,
  out_batch: u32,
  out_head: u32,
  out_row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Element>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let i = (group.y * groups.x + group.x) * 64u + local;
  if (i >= params.count) {
    return;
  }
  let d = i % params.out_width;
  let row = i / params.out_width % params.rows;
  let head = i / params.out_width / params.rows % params.heads;
  let batch = i / params.out_width / params.rows / params.heads;
  let at = params.x_offset + batch * params.x_batch + head * params.x_head + row * params.x_row + min(d, params.in_width - 1u);
  let value = unpack_element(x[element_slot(at)], at);
  out[batch * params.out_batch + head * params.out_head + row * params.out_row + d] = select(0.0, value, d < params.in_width);
}
