// Elements that lie in their order, of the binding `weight`; `Element` and what reads it come with element_*.wgsl.

/// Element i.
fn load_element(i: u32) -> f32 {
  return unpack_element(weight[element_slot(i)], i);
}
