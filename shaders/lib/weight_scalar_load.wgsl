// One weight a load: see weight_scalar.wgsl.

/// Weight i of the binding `weight`.
fn load_weight(i: u32) -> f32 {
  return unpack_weight(weight[i]);
}
