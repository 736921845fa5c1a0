// One channel of a key of a pool in f32 or f16. `Element` and `unpack_element` come from an element_*.wgsl part.

alias KeyWord = Element;

fn key_element(i: u32) -> f32 {
  return unpack_element(kv[element_slot(i)], i);
}
