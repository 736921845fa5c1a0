// out[c, r] = x[r, c] for 16-bit elements, two to a word
//
// in:  x [x_rows, cols] of 16-bit elements packed in u32: rows `x_first` and after of the whole [rows, cols]
// out: out [out_elements / rows, rows] likewise: rows `out_first` and after of the whole [cols, rows]
// One invocation: one word of out, two elements; an element whose source lies in another part of x is left alone.
// Workgroup memory: 0 bytes. Bits are moved, never interpreted, so shader-f16 is not needed.

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

// The element at position i of out, in the low half; `old` where its source is not in this part of x.
fn element(i: u32, old: u32) -> u32 {
  let r = i % params.rows;
  if (i >= params.out_elements || r < params.x_first || r >= params.x_first + params.x_rows) {
    return old;
  }
  let source = (r - params.x_first) * params.cols + params.out_first + i / params.rows;
  return (x[source / 2u] >> (16u * (source % 2u))) & 0xffffu;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let word = gid.y * groups.x * 64u + gid.x;
  if (word * 2u < params.out_elements) {
    let old = out[word];
    out[word] = element(word * 2u, old & 0xffffu) | (element(word * 2u + 1u, old >> 16u) << 16u);
  }
}
