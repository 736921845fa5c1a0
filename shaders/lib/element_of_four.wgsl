// Weights that are read four at a time, one taken of them: for kernels that know no order of the elements.

alias Element = WeightVec4;

/// Element i of the binding `weight`.
fn load_element(i: u32) -> f32 {
  return load_weight(i / 4u)[i % 4u];
}
