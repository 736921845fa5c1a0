// Tensors stored as f16, one element a load; needs the extension f16.

alias Element = f16;

fn element_slot(i: u32) -> u32 {
  return i;
}

fn unpack_element(element: Element, i: u32) -> f32 {
  return f32(element);
}
