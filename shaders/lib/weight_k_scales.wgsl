// The scales that q4_k and q5_k share: f16 scale and f16 minimum of the block, then eight 6-bit scales and eight 6-bit minima,
// one of each for 32 weights, in 12 bytes. Source: GGUF's K-quants.

/// Scale (x) and minimum (y) of the run of 32 weights that is the run-th of the block at this byte.
fn k_scales(block: u32, run: u32) -> vec2<f32> {
  let scales = block + 4u;
  var scale = byte_at(scales + run) & 63u;
  var minimum = byte_at(scales + run + 4u) & 63u;
  if (run >= 4u) {
    let low = byte_at(scales + run + 4u);
    scale = (low & 15u) | ((byte_at(scales + run - 4u) >> 6u) << 4u);
    minimum = (low >> 4u) | ((byte_at(scales + run) >> 6u) << 4u);
  }
  return unpack2x16float(weight[block / 4u]) * vec2<f32>(vec2(scale, minimum));
}
