// out[c, r] = x[r, c] for 16-bit elements, two to a word
//
// x: [rows, cols] 16-bit elements packed in u32, read. out: [cols, rows] likewise, written.
// One invocation writes one word: two elements, consecutive in out.
// Workgroup memory: none. Bits are moved, never interpreted, so shader-f16 is not needed.

struct Params {
  rows: u32,
  cols: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

// The element at position i of out, in the low half.
fn element(i: u32) -> u32 {
  if (i >= params.rows * params.cols) {
    return 0u;
  }
  let source = (i % params.rows) * params.cols + i / params.rows;
  return (x[source / 2u] >> (16u * (source % 2u))) & 0xffffu;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let word = gid.y * groups.x * 64u + gid.x;
  if (word * 2u < params.rows * params.cols) {
    out[word] = element(word * 2u) | (element(word * 2u + 1u) << 16u);
  }
}
