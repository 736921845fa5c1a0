// out[c, r] = x[r, c]
//
// in:  x [x_rows, cols] of 4-byte elements: rows `x_first` and after of the whole [rows, cols]
// out: out [out_elements / rows, rows]: rows `out_first` and after of the whole [cols, rows]
// One invocation: one element of out; it is left alone where its source lies in another part of x.
// Workgroup memory: 0 bytes. It runs once per weight at load, so uncoalesced reads do not matter.

struct Params {
  rows: u32,
  cols: u32,
  x_first: u32,
  x_rows: u32,
  out_first: u32,
  out_elements: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = gid.y * groups.x * 64u + gid.x;
  let r = i % params.rows;
  if (i >= params.out_elements || r < params.x_first || r >= params.x_first + params.x_rows) {
    return;
  }
  out[i] = x[(r - params.x_first) * params.cols + params.out_first + i / params.rows];
}
