// Weights stored as f32, four a load.

alias WeightVec4 = vec4<f32>;

fn unpack_weight(w: WeightVec4) -> vec4<f32> {
  return w;
}
