// Dense q, k, v whose head sizes and strides are multiples of four: one load for four elements.
// `WeightVec4` and `unpack_weight` come from the weight_*.wgsl part of the tensors' dtype.

@group(0) @binding(1) var<storage, read> q: array<WeightVec4>;
@group(0) @binding(2) var<storage, read> k: array<WeightVec4>;
@group(0) @binding(3) var<storage, read> v: array<WeightVec4>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

fn load_q(at: u32, column: u32) -> vec4<f32> {
  return unpack_weight(q[at + column]);
}

fn load_k(at: u32, column: u32) -> vec4<f32> {
  return unpack_weight(k[at + column]);
}

fn load_v(at: u32, column: u32) -> vec4<f32> {
  return unpack_weight(v[at + column]);
}

fn load_out(at: u32, column: u32) -> vec4<f32> {
  return out[at + column];
}

fn store_out(at: u32, column: u32, value: vec4<f32>) {
  out[at + column] = value;
}
