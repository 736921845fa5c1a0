// One channel of a key of a pool in blocks of 32 channels, nine words each: the scale as f16 in a word, then 32 signed bytes.

alias KeyWord = u32;

fn key_element(i: u32) -> f32 {
  let block = i / 32u * 9u;
  let byte = extractBits(bitcast<i32>(kv[block + 1u + i % 32u / 4u]), i % 4u * 8u, 8u);
  return unpack2x16float(kv[block]).x * f32(byte);
}
