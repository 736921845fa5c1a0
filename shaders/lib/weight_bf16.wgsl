// Weights stored as bf16, the upper halves of f32, four a load.

alias WeightVec4 = vec2<u32>;

fn unpack_weight(w: WeightVec4) -> vec4<f32> {
  return bitcast<vec4<f32>>(vec4(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}
