// Tensors stored as f16, read as pairs in u32, for devices without the extension f16.

alias Element = u32;

fn element_slot(i: u32) -> u32 {
  return i / 2u;
}

fn unpack_element(element: Element, i: u32) -> f32 {
  let pair = unpack2x16float(element);
  return select(pair.x, pair.y, (i & 1u) == 1u);
}
