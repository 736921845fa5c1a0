// Weights stored as f16, read as pairs in u32, for devices without the extension f16.

alias WeightVec4 = vec2<u32>;

fn unpack_weight(w: WeightVec4) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y));
}
