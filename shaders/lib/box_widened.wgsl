// f16 as f32; `Element` and `unpack_element` come with element_f16*.wgsl.

fn word_of(element: Element, i: u32) -> u32 {
  return bitcast<u32>(unpack_element(element, i));
}
