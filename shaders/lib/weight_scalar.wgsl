// Weights stored as f32 in rows whose width is no multiple of four: one a load. See weight_f32.wgsl.

alias WeightVec4 = f32;

fn unpack_weight(w: WeightVec4) -> f32 {
  return w;
}
