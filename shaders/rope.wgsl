// Per head and pair (a, b) of channels, with φ = position · inverse frequency:
//   a' = a cos φ − b sin φ,  b' = b cos φ + a sin φ;  the backward pass turns by −φ (`sign` −1)
//
// in:  x [rows, heads · head_dim] f32, rows `row_stride` apart from `offset` on
//      positions [rows · position_stride] u32; with stride 2 it is a row table of (slot, position)
//      cos_sin [max_positions, rotary / 2, 2] f32
// out: out [rows, heads · head_dim] f32; rows whose slot is inactive are 0
// One invocation: one element of out.
// Workgroup memory: 0 bytes.
// Preconditions: rotary is even and ≤ head_dim.
// Source: see lib/rotate.wgsl.

struct Params {
  rows: u32,
  columns: u32,
  offset: u32,
  row_stride: u32,
  head_dim: u32,
  rotary: u32,
  interleaved: u32,
  position_stride: u32,
  max_positions: u32,
  sign: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> positions: array<u32>;
@group(0) @binding(2) var<storage, read> cos_sin: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<uniform> params: Params;

const INACTIVE: u32 = 0xffffffffu;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.rows * params.columns) {
    return;
  }
  let row = i / params.columns;
  let column = i % params.columns;
  let c = column % params.head_dim;
  let at = params.offset + row * params.row_stride + column;
  var value = x[at];
  if (c < params.rotary) {
    let position = min(positions[row * params.position_stride + params.position_stride - 1u], params.max_positions - 1u);
    let partner = x[at - c + rotary_partner(c, params.rotary, params.interleaved)];
    let pair = rotary_pair(c, params.rotary, params.interleaved);
    var angle = cos_sin[position * (params.rotary / 2u) + pair];
    angle.y *= params.sign;
    value = rotary_turn(c, value, partner, angle, params.rotary, params.interleaved);
  }
  let inactive = params.position_stride == 2u && positions[row * 2u] == INACTIVE;
  out[i] = select(value, 0.0, inactive);
}
