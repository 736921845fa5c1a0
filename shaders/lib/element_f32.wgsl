// Tensors stored as f32, one element a load.

alias Element = f32;

fn element_slot(i: u32) -> u32 {
  return i;
}

fn unpack_element(element: Element, i: u32) -> f32 {
  return element;
}
