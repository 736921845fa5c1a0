// What the formats in blocks share: bytes of the binding `weight`, which is read a word at a time. Blocks have an even number of
// bytes, so a word of a block may lie across two of the binding.

alias WeightVec4 = u32;

/// Four bytes from an even place.
fn word_at(byte: u32) -> u32 {
  let low = weight[byte / 4u];
  if ((byte & 2u) == 0u) {
    return low;
  }
  return (low >> 16u) | (weight[byte / 4u + 1u] << 16u);
}

/// The f16 at an even place.
fn half_at(byte: u32) -> f32 {
  return unpack2x16float(weight[byte / 4u] >> (8u * (byte & 2u))).x;
}

fn byte_at(byte: u32) -> u32 {
  return (weight[byte / 4u] >> (8u * (byte & 3u))) & 0xffu;
}

/// The four bytes of a word, the lowest first.
fn bytes_of(word: u32) -> vec4<u32> {
  return (vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(0xffu);
}

/// The same as signed numbers.
fn signed_bytes_of(word: u32) -> vec4<i32> {
  return vec4<i32>(vec4(word) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u);
}
