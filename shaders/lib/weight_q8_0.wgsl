// Weights in blocks of 32 (34 bytes): scale f16, then 32 signed bytes. weight = scale · byte. Source: GGUF's Q8_0.

/// Weights 4i to 4i + 3 of the binding `weight`.
fn load_weight(i: u32) -> vec4<f32> {
  let block = i / 8u * 34u;
  return half_at(block) * vec4<f32>(signed_bytes_of(word_at(block + 2u + i % 8u * 4u)));
}
