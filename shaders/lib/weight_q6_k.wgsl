// Weights in blocks of 256 (210 bytes): 128 bytes of low halves, 64 of upper pairs of bits, 16 signed scales (one for 16 weights),
// scale f16. Of each 128 weights, run r of 32 has its low halves in bytes 32 · (r mod 2), low or (r ≥ 2) high, and its pairs in
// bits 2r of 32 bytes. weight = (scale of the block · scale) · (number − 32). Source: GGUF's Q6_K.

/// Weights 4i to 4i + 3 of the binding `weight`.
fn load_weight(i: u32) -> vec4<f32> {
  let block = i / 64u * 210u;
  let half = i % 64u / 32u;
  let run = i % 32u / 8u;
  let place = i % 8u * 4u;
  let low = word_at(block + half * 64u + run % 2u * 32u + place) >> (run / 2u * 4u);
  let high = word_at(block + 128u + half * 32u + place) >> (run * 2u);
  let number = bytes_of((low & 0x0f0f0f0fu) | ((high & 0x03030303u) << 4u));
  let scale = bitcast<i32>(byte_at(block + 192u + i % 64u / 4u) << 24u) >> 24u;
  return (half_at(block + 208u) * f32(scale)) * (vec4<f32>(number) - 32.0);
}
