// Weights in blocks of 256 (176 bytes): scales (lib/weight_k_scales.wgsl), 32 bytes whose bit r is the fifth bit of a weight of the
// r-th run of 32, then halves as in q4_k. weight = scale · (half + 16 · bit) − minimum. Source: GGUF's Q5_K.

/// Weights 4i to 4i + 3 of the binding `weight`.
fn load_weight(i: u32) -> vec4<f32> {
  let block = i / 64u * 176u;
  let run = i % 64u / 8u;
  let word = weight[(block + 48u + run / 2u * 32u + i % 8u * 4u) / 4u] >> (run % 2u * 4u);
  let high = weight[(block + 16u + i % 8u * 4u) / 4u] >> run;
  let scales = k_scales(block, run);
  return scales.x * vec4<f32>(bytes_of((word & 0x0f0f0f0fu) | ((high & 0x01010101u) << 4u))) - scales.y;
}
