// out[i] = kept(i) ? x[i] · factor : 0,  factor = 1 / (1 − rate);  kept(i) if the element's random word is ≥ `limit`
//
// in:  x [rows, columns] f32, rows `row_stride` apart from `offset` on; rng [3] u32: seed (low, high), step
// out: out [rows, columns] f32
// One invocation: the four elements 4j … 4j + 3, whose random words are Philox at counter (j, op, step, 0): the gradient
// draws the same mask from the same words, and nothing is stored.
// Workgroup memory: 0 bytes.
// Preconditions: limit = ⌊rate · 2^32⌋, rate < 1.
// Source: Srivastava et al., "Dropout" (2014), §10.

struct Params {
  rows: u32,
  columns: u32,
  offset: u32,
  row_stride: u32,
  op: u32,
  limit: u32,
  factor: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> rng: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let j = id.y * groups.x * 64u + id.x;
  let count = params.rows * params.columns;
  let words = philox(vec4<u32>(j, params.op, rng[2], 0u), vec2<u32>(rng[0], rng[1]));
  for (var k = 0u; k < 4u; k++) {
    let i = 4u * j + k;
    if (i < count) {
      let value = x[params.offset + i / params.columns * params.row_stride + i % params.columns];
      out[i] = select(0.0, value * params.factor, words[k] >= params.limit);
    }
  }
}
