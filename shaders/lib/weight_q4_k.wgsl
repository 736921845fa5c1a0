// Weights in blocks of 256 (144 bytes): scales (lib/weight_k_scales.wgsl), then 128 bytes: of each 32, the low halves are 32
// weights and the high halves the next 32. weight = scale · half − minimum. Source: GGUF's Q4_K.

/// Weights 4i to 4i + 3 of the binding `weight`.
fn load_weight(i: u32) -> vec4<f32> {
  let block = i / 64u * 144u;
  let run = i % 64u / 8u;
  let word = weight[(block + 16u + run / 2u * 32u + i % 8u * 4u) / 4u] >> (run % 2u * 4u);
  let scales = k_scales(block, run);
  return scales.x * vec4<f32>(bytes_of(word & 0x0f0f0f0fu)) - scales.y;
}
