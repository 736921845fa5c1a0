// out[i] = x[i] rounded to f16; beyond its range ±∞, NaN stays NaN
//
// in:  x [rows, columns] f32, rows `row_stride` apart from `offset` on
// out: out [rows, columns] f16, two a word, from word `out_offset` on
// One invocation: two neighbours.
// Workgroup memory: 0 bytes.
// Preconditions: none; the word that an odd count ends in holds a 0 behind it.

struct Params {
  count: u32,
  columns: u32,
  offset: u32,
  row_stride: u32,
  out_offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;

/// The largest f16; what lies half a step above rounds to ∞.
const LARGEST = 65504.0;
const TOO_LARGE = 65520.0;

fn element(i: u32) -> f32 {
  if (i >= params.count) {
    return 0.0;
  }
  return x[params.offset + i / params.columns * params.row_stride + i % params.columns];
}

// By bits: what pack2x16float makes of numbers beyond f16's range is not specified.
fn half_bits(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  let sign = (bits >> 16u) & 0x8000u;
  let size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) {
    return sign | 0x7e00u;
  }
  if (size >= bitcast<u32>(TOO_LARGE)) {
    return sign | 0x7c00u;
  }
  return pack2x16float(vec2(clamp(value, -LARGEST, LARGEST), 0.0)) & 0xffffu;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let word = id.y * groups.x * 64u + id.x;
  if (2u * word >= params.count) {
    return;
  }
  out[params.out_offset + word] = half_bits(element(2u * word)) | (half_bits(element(2u * word + 1u)) << 16u);
}
