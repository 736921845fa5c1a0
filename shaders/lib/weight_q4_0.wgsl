// Weights in blocks of 32 (18 bytes): scale f16, then 16 bytes, whose low halves are weights 0–15 and high halves 16–31.
// weight = scale · (half − 8). Source: GGUF's Q4_0.

/// Weights 4i to 4i + 3 of the binding `weight`.
fn load_weight(i: u32) -> vec4<f32> {
  let block = i / 8u * 18u;
  let word = word_at(block + 2u + i % 4u * 4u) >> (i % 8u / 4u * 4u);
  return half_at(block) * (vec4<f32>(bytes_of(word & 0x0f0f0f0fu)) - 8.0);
}
