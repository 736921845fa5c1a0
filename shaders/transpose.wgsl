// out[c, r] = x[r, c]
//
// x: [rows, cols] as 4-byte elements, read. out: [cols, rows], written.
// A workgroup of 64 moves 64 elements, consecutive in out.
// Workgroup memory: none. It runs once per weight at load, so uncoalesced reads do not matter.

struct Params {
  rows: u32,
  cols: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = gid.y * groups.x * 64u + gid.x;
  if (i < params.rows * params.cols) {
    out[i] = x[(i % params.rows) * params.cols + i / params.rows];
  }
}
