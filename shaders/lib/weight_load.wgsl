// Weights that lie in their order: load i of the binding `weight`; `WeightVec4` and `unpack_weight` come with weight_*.wgsl.

/// Weights 4i to 4i + 3.
fn load_weight(i: u32) -> vec4<f32> {
  return unpack_weight(weight[i]);
}
