// The left operand stored as f16, read as pairs in u32 of the binding `x`, for devices without the extension f16.

alias X = u32;

/// Element i.
fn load_x(i: u32) -> f32 {
  let pair = unpack2x16float(x[i / 2u]);
  return select(pair.x, pair.y, (i & 1u) == 1u);
}
