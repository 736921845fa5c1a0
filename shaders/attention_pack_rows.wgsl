// table[offset + 2r], table[offset + 2r + 1] = lse[r] · log₂ e, dots[r]: what attention_gradient.wgsl reads of each row.
//
// in:  lse, dots [B, H, T] f32
// out: table u32, from word `offset` on the bits of f32
// One workgroup: 64 rows. One invocation: one row.
// Workgroup memory: 0 bytes.
// Preconditions: table has offset + 2 · count words. Source: the layout is this engine's own.

struct Params {
  count: u32,
  offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> lse: array<f32>;
@group(0) @binding(2) var<storage, read> dots: array<f32>;
@group(0) @binding(3) var<storage, read_write> table: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let row = id.y * groups.x * 64u + id.x;
  if (row < params.count) {
    table[params.offset + 2u * row] = bitcast<u32>(lse[row] * 1.4426950408889634);
    table[params.offset + 2u * row + 1u] = bitcast<u32>(dots[row]);
  }
}
