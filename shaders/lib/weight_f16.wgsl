// Weights stored as f16, four a load; needs the extension f16. Sums are f32.

alias WeightVec4 = vec4<f16>;

fn unpack_weight(w: WeightVec4) -> vec4<f32> {
  return vec4<f32>(w);
}
